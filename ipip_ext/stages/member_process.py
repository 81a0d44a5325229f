"""What `members` starts, by `run/processes.py`: arguments are the file of `Members` and the number of one."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ipip_ext.backends.base import FitHooks
from ipip_ext.run.processes import tell
from ipip_ext.stages.members import Members


def main(task: Path, k: int) -> None:
    """Train member k of `task`, and tell how it goes."""
    members = Members.model_validate_json(task.read_text(encoding="utf-8"))
    torch.set_num_threads(members.threads)
    members.train_one(
        k, FitHooks(progress=lambda share, text: tell(share=share, text=text), note=lambda text: tell(note=text))
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
