"""Pages and plots, and what they say of their origin.

May import: recipe, run, potentials, data, measure.
Must not know: models, stages.
"""
