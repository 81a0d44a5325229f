#!/usr/bin/env python
"""Training steps and evaluations of students with e3nn's convolution and with ours, in turn, on the Mo-S-O frames.

    scripts/bench_convolution.py [--frames 5] [--repeats 20]

Milliseconds of CPU time a frame, medians, and the ratios of neighbours in time, medians too. Random weights.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

STUDENTS = ("16x0e", "32x0e", "32x0e+32x1o", "64x0e+64x1o")
DATA = Path(__file__).parent.parent / "recipes" / "data" / "mo_s_o" / "train.extxyz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5, help="frames in a batch")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()

    import torch
    from ase.io import read

    from ipip_ext.backends.mace import convolution
    from ipip_ext.backends.mace.graphs import collate, graph_of, species_index
    from ipip_ext.backends.mace.model import build, measure
    from ipip_ext.recipe.students import MaceConfig

    torch.set_num_threads(1)
    frames = read(DATA, f":{options.frames}")
    print(f"batches of {options.frames} frames of about {len(frames[0])} atoms, one thread")
    print("student          what      e3nn   ours   ratio")
    for hidden_irreps in STUDENTS:
        model = build(measure(MaceConfig(hidden_irreps=hidden_irreps), {"Mo": 0.0, "S": 0.0, "O": 0.0}, frames), seed=0)
        index = species_index(model.spec.atomic_numbers)
        graphs = [graph_of(frame, index, model.spec.config.r_max_A, torch.float32) for frame in frames]
        batch = collate(graphs, len(index), "cpu")
        plain, ours = model.module, copy.deepcopy(model.module)
        convolution.install(ours)
        for what, trains in (("train", True), ("evaluate", False)):
            took: list[tuple[float, float]] = []
            for _ in range(options.repeats):
                pair = []
                for module in (plain, ours):
                    module.requires_grad_(trains)
                    start = time.process_time()
                    output = module(batch, training=trains)
                    if trains:
                        (output["forces"] ** 2).mean().backward()
                    pair.append((time.process_time() - start) * 1e3 / len(frames))
                took.append((pair[0], pair[1]))
            medians = [statistics.median(times) for times in zip(*took, strict=True)]
            ratio = statistics.median(one / other for one, other in took)
            print(f"{hidden_irreps:16s} {what:8s} {medians[0]:6.2f} {medians[1]:6.2f} {ratio:6.2f} x", flush=True)


if __name__ == "__main__":
    main()
