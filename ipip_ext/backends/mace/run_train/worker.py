"""What `run_train` starts: `python -m ipip_ext.backends.mace.run_train_worker PARENT ARGUMENTS`."""

from __future__ import annotations

import sys

from ipip_ext.run.signals import end_with

if __name__ == "__main__":
    end_with(int(sys.argv.pop(1)))
    from mace.cli.run_train import main

    main()
