"""The one interface for energies and forces, batches of it, and an ASE calculator around it.

May import: nothing but errors and units.
Must not know: who is behind a potential; recipes; run folders.
"""
