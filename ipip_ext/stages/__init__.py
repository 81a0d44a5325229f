"""One step of the method a file: parameters and files in, files out.

May import: recipe, run, potentials, data, backends, teachers, md, measure, report.
Must not know: MLflow, mace, the loop, the command line.
"""
