"""Many runs: grids of variants and seeds, tables and pages over finished runs.

May import: recipe, run, potentials, data, report, stages, check, admission, publishing, runner,
tracking.
Must not know: the command line.
"""
