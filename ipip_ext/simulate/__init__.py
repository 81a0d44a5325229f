"""`ipip-mace md`: a user's own walk, its files and its summary.

May import: recipe, run, potentials, data, teachers, md, measure.
Must not know: stages, the loop.
"""
