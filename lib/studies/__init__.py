"""What joins data, models and evaluation: grids of runs (rows times seeds, one tidy table out), and notebooks' tables.

What cannot work raises `UserError`, one line that says what can; in a grid it costs the one cell.
"""
