"""Numbers about models beyond a frame's error: breakdowns, properties, structure functions, times.

May import: run (records), potentials, data.
Must not know: stages, pages, how a model is made.
"""
