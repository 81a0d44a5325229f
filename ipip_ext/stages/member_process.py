"""What `members` starts: `python -m ipip_ext.stages.member_process MEMBERS.json K PARENT`; it speaks JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from ipip_ext.backends.base import FitHooks
from ipip_ext.run.signals import end_if_orphaned, end_with
from ipip_ext.stages.members import Members


def main(task: Path, k: int, parent: int) -> None:
    """Train member k of `task`. parent: id of the process that holds the run's lock; this one ends with that one."""
    end_with(parent)

    def say(**what: object) -> None:
        end_if_orphaned(parent)
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    members = Members.model_validate_json(task.read_text(encoding="utf-8"))
    torch.set_num_threads(members.threads)
    members.train_one(
        k, FitHooks(progress=lambda share, text: say(share=share, text=text), note=lambda text: say(note=text))
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
