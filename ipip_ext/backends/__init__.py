"""Students: the contract, training, committees, and one room for each kind of student.

May import: recipe, run, potentials, data.
Must not know: teachers, MD, stages, the loop. Only `backends/mace/` imports mace.
"""
