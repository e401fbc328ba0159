"""Grids of runs: rows times seeds, each cell made once, one tidy table out."""
