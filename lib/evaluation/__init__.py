"""Evaluation: label propagation and its measures, knowing neither models nor data formats."""
