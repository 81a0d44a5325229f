"""Before a run (is all in order, what will it cost) and after (where it stands, does it hold what it claims).

May import: what a run is made of: recipe, run, potentials, data, backends, teachers, md, measure, report, stages.
Must not know: the runner, comparisons of many runs, the command line.
"""
