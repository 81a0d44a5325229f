"""The command line: parse, call one function of `ipip_ext`, print.

May import: anything.
Must not know: logic: what Python users can't do without it.
"""
