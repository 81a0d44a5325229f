"""MACE students. Nothing outside this package imports `mace`."""
