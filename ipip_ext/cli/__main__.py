"""`python -m ipip_ext.cli`: the command line without its script."""

from ipip_ext.cli.main import main

if __name__ == "__main__":
    main()
