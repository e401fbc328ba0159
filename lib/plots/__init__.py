"""Figures and tables of the notebooks, by kind: pictures, clips, curves, bars, factors, scores, diagrams, tables.

Functions take numbers and return a Figure, with the numbers drawn where the caller does not have them; `style.finish`
saves and shows it. Titles and the line below a figure are the caller's: what was found, on which data.
"""
