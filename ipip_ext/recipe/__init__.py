"""What a user may ask for: the frozen sections of a recipe, its files and overrides, its reference page, and the
settings of every backend's students.

May import: nothing but errors and units.
Must not know: how any of it is done; torch, mace, ASE's calculators.
"""
