"""The mirror of a run in MLflow; the only importer of mlflow.

May import: recipe, run, data, and the door for users (a stored model loads itself by it).
Must not know: stages, the loop.
"""
