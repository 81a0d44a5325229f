#!/usr/bin/env python
"""The members of a finished run's first committee, trained one after another and side by side, in turn.

    scripts/bench_committee.py runs/NAME [--size 3] [--epochs 10] [--processes 2] [--repeats 2]

Seconds of wall time, medians, and the median ratio of neighbours in time. Each member starts from the run's first
pretrained student, as in the run; only its epochs are fewer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--size", type=int, default=3, help="members, the iteration's own student among them")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2, help="at most this many at once")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()

    import torch

    from ipip_ext.recipe.file import load_recipe
    from ipip_ext.run.events import EventBus
    from ipip_ext.run.stage import Context
    from ipip_ext.stages.committee import committee

    torch.set_num_threads(1)
    run = options.run
    recipe = load_recipe(run / "recipe.yaml")
    settings = recipe.finetune.model_copy(update={"epochs": options.epochs, "min_steps": 0})
    pool = next(
        path
        for path in (run / "adapt/pool.extxyz", run / "correct/pool.extxyz", run / "explore/frames.extxyz")
        if path.exists()
    )

    def seconds(spare: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            ctx = Context(Path(folder), "committee", 1, "cpu", EventBus([]), spare_processes=spare)
            start = time.perf_counter()
            committee(
                ctx, settings, student=recipe.student, size=options.size, bootstrap=True, pool=pool,
                pretrained=run / "iter-00/pretrain/model", tuned=run / "iter-00/finetune/model",
                train=run / "prepare/train.extxyz", valid=run / "prepare/valid.extxyz",
            )  # fmt: skip
            return time.perf_counter() - start

    took = [(seconds(0), seconds(options.processes - 1)) for _ in range(options.repeats)]
    alone, beside = (statistics.median(times) for times in zip(*took, strict=True))
    ratio = statistics.median(one / other for one, other in took)
    print(f"{options.size - 1} members of {options.epochs} epochs: {alone:.0f} s one after another,")
    print(f"{beside:.0f} s in {options.processes} processes: {ratio:.2f} x")


if __name__ == "__main__":
    main()
