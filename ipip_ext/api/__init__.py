"""What Python users call, and all that the command line does besides printing; `ipip_ext` itself is its door.

May import: anything but the command line.
Must not know: flags, exit codes, the command line.
"""
