"""Every calculator that is not a student: entries of a recipe, CHGNet, LAMMPS, another Python, corrections, whom
to trust; and `load`, which finds the potential that a name or a folder means.

May import: recipe, run, potentials, data, backends.
Must not know: MD, stages, the loop.
"""
