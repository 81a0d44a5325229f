"""A calculator of another Python: the near side that asks, the far side that answers."""
