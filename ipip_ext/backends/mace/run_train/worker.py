"""What `process` starts, by `run/processes.py`: MACE's own command, with MACE's own arguments."""

from __future__ import annotations

if __name__ == "__main__":
    from mace.cli.run_train import main

    main()
