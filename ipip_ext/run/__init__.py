"""The run folder: what is said (events), recorded (workspace, fingerprint, provenance) and held (lock, signals,
disk), whatever the stages are.

May import: nothing but errors and units.
Must not know: sections of a recipe, stages, models.
"""
