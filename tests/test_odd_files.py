"""A run on files that hold anything besides what it needs ends with the table of plain ones."""

from __future__ import annotations

import csv
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloy import write_recipe
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner

from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr

_THEIRS = ("ms", "wall", "memory", "MiB")
"""Parts of the names of columns that no two runs share."""


def odd(source: Path, target: Path, ids: list) -> None:
    """Write the same frames as a file that keeps line breaks, with names of ours and what extended XYZ can't hold."""
    frames = fr.read_structures(source)
    for index, frame in enumerate(frames):
        if fr.FORCES in frame.arrays:
            labels = {"energy": frame.info.pop(fr.ENERGY), "forces": frame.arrays.pop(fr.FORCES)}
            frame.calc = SinglePointCalculator(frame, **labels)
        frame.info |= {
            "comment": "PBE, 500 eV\nrestarted once", "frame_id": ids[index % len(ids)], "label_weight": -1.0, "": 1,
            "label_source": "self:iter-00", "before_stop": "force", "a=b": ["x", None], "flag": "T",
        }  # fmt: skip
        frame.set_tags(np.arange(len(frame)))
    ase.io.write(target, frames)


def numbers(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as table:
        rows = list(csv.DictReader(table))
    return [{key: said for key, said in row.items() if not any(part in key for part in _THEIRS)} for row in rows]


@pytest.mark.slow
def test_a_run_on_odd_files_gives_the_table_of_plain_ones(finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for split, ids in (("train", [1, 2.5, "x"]), ("test", ["seed0-md00-000000"]), ("starts", [""])):
        odd(finished_run / f"data/{split}.extxyz", tmp_path / f"data/{split}.traj", ids)
    files = {f"data__{split}": f"data/{split}.traj" for split in ("train", "test")}
    write_recipe(
        tmp_path, Path("data"), **files, explore__starts="data/starts.traj", data__energy_key="energy",
        data__forces_key="forces", tracking__enabled=False,
    )  # fmt: skip
    for command in (["check", "recipe.yaml"], ["run", "recipe.yaml"], ["verify", "runs/tiny"]):
        done = CliRunner().invoke(main, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    for name in ("compare.csv", "breakdown.csv"):
        assert numbers(tmp_path / "runs/tiny" / name) == numbers(finished_run / "runs/tiny" / name)
    start = fr.read_frames(tmp_path / "runs/tiny/prepare/starts.extxyz")[0]
    assert start.info["comment"] == "PBE, 500 eV\nrestarted once"
    assert start.info["a=b"] == ["x", None]
