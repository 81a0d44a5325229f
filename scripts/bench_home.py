#!/usr/bin/env python
"""What it costs a student to tell where it is at home, on the Mo-S-O starts repeated to about 100 atoms.

    scripts/bench_home.py [--repeats 40]

Milliseconds of CPU time, medians, one thread, with and without home in turn; ratios of neighbours in time, medians too.
Random weights. `frame`: home distances alone, as MD asks for them at each frame that it keeps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

STUDENTS = ("16x0e", "32x0e", "64x0e", "128x0e")
DATA = Path(__file__).parent.parent / "recipes" / "data" / "mo_s_o"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()

    import torch

    from ipip_ext.backends.home_file import HOME
    from ipip_ext.backends.mace.backend import MaceBackend
    from ipip_ext.data import frames as fr
    from ipip_ext.recipe.students import MaceConfig

    torch.set_num_threads(1)
    frames = fr.read_frames(DATA / "train.extxyz")
    cell = fr.read_structures(DATA / "starts.extxyz")[0].repeat((3, 3, 1))
    backend = MaceBackend()
    print(f"{cell.get_chemical_formula()}, {len(cell)} atoms")
    print("student   file KiB   without    with   ratio   frame   of a step")
    for hidden_irreps in STUDENTS:
        new = backend.build(MaceConfig(hidden_irreps=hidden_irreps), {"Mo": 0.0, "S": 0.0, "O": 0.0}, frames, seed=0)
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            backend.export(new, folder)
            backend.settle(new, folder, frames[:-20], frames[-20:], "cpu")
            size = (folder / HOME).stat().st_size / 1024
            at_home, homeless = backend.potential(backend.load(folder), "cpu"), backend.potential(new, "cpu")
        took = []
        for _ in range(options.repeats):
            row = []
            for call in (homeless.compute, at_home.compute, at_home.home_distances):
                cell.rattle(1e-4)
                start = time.process_time()
                call([cell])
                row.append((time.process_time() - start) * 1e3)
            took.append(row)
        without, with_home, frame = (statistics.median(column) for column in zip(*took, strict=True))
        ratio = statistics.median(row[1] / row[0] for row in took)
        share = statistics.median(row[2] / row[0] for row in took)
        print(f"{hidden_irreps:9} {size:8.0f} {without:9.1f} {with_home:7.1f} {ratio:7.3f} {frame:7.1f} {share:11.2f}")


if __name__ == "__main__":
    main()
