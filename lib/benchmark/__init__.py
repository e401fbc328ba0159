"""Benchmarks: each prints and returns ratios of one run, taken in turns on one machine."""
