"""Scores of predicted files against a benchmark, one module a benchmark, read from its own results layout."""
