"""The run folder and the work in it: what is said (events), recorded (workspace, fingerprint, provenance) and held
(lock, signals, disk), and where stages are computed (scheduler; pool and cluster are places; job is their far side).

May import: nothing but errors, units and the package's version.
Must not know: sections of a recipe, stages, models.
"""
