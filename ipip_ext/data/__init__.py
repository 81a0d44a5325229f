"""Frames and labels: reading and checking files, splits, leakage, filters, selection, error metrics, tables.

May import: recipe (what is asked of data), run (seeds and disk), potentials.
Must not know: models, stages.
"""
