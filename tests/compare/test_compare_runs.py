"""Several runs side by side: may they be compared, means over seeds, learning curves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from webpage import opened

from ipip_ext.cli.main import main
from ipip_ext.compare.finished import read
from ipip_ext.compare.runs import Comparison
from ipip_ext.data.tables import write_csv
from ipip_ext.errors import WorkspaceError
from ipip_ext.report.html.against import ENERGY, FORCE


def finished(folder: Path, force: dict[str, float], *, test: str = "aa", n_train: int = 40, **recipe: object) -> Path:
    """Write of a finished run what a comparison reads. force: F MAE on test by model; energies are a tenth of it."""
    (folder / "prepare").mkdir(parents=True)
    given = {key: f"sha256:{value}" for key, value in {"train": "tt", "test": test, "starts": "ss"}.items()}
    (folder / "prepare/stage.json").write_text(
        json.dumps({
            "stage": "prepare", "outputs": {}, "values": {"n_train": n_train, "n_valid": 10},
            "fingerprint": {"inputs": {**given, "valid": None}}, "versions": {"torch": "2.x"}, "hardware": {},
        })
    )  # fmt: skip
    data = {
        "train": f"/{folder.name}/train.extxyz",
        "test": "/t.extxyz",
        "n_train": n_train,
        "energy_key": "E",
        "ood": None,
    }
    flat = {"name": folder.name, "seed": 0, "explore": {"starts": "/s.extxyz"}, **recipe, "data": data}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(flat))
    roles = {"ipip": "ipip", "iteration-0": "iteration"}
    rows = [
        {"model": model, "role": roles.get(model, "baseline"), "split": split, "n_frames": 48, FORCE: value * factor,
         "force_rmse_meV_per_A": value, ENERGY: value / 10, "md_step_ms": 10.0, "n_parameters": 7,
         "n_reference_labels": "" if model == "teacher" else n_train + 10}
        for model, value in force.items() for split, factor in (("test", 1), ("test_ood", 2))
    ]  # fmt: skip
    write_csv(folder / "compare.csv", rows)
    (folder / "compare.txt").write_text(f"table of {folder.name}\n")
    return folder


def compared(*folders: object) -> str:
    done = CliRunner().invoke(main, ["compare", *map(str, folders)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_runs_with_other_seeds_are_averaged(tmp_path):
    forces = [100.0, 110.0, 120.0]
    runs = [
        finished(tmp_path / f"x-s{i}", {"ipip": f, "scratch": 2 * f, "iteration-0": 1.0}, seed=i)
        for i, f in enumerate(forces)
    ]
    text = compared(*runs)
    assert "Test frames: the same file in all runs (sha256:aa): 48 in test" in text
    assert "NOT COMPARABLE" not in text
    assert "iteration-0" not in text
    (mean,) = [line for line in text.splitlines() if re.match(r"x-s +ipip", line)]
    assert re.split(" {2,}", mean)[2:5] == ["0, 1, 2", "110 +- 10", "220 +- 20"]
    assert "11.0 +- 1.0" in mean
    assert compared(runs[0]) == f"{runs[0]}\ntable of x-s0\n\n"
    other = finished(tmp_path / "y", {"ipip": 50.0}, seed=0, finetune={"lr": 0.5})
    text = compared(*runs[:2], other)
    assert re.search(r"finetune.lr +- +0.5", text)
    assert "105 +- 7" in text
    assert "data.train" not in text  # the same content in another folder


def test_other_test_frames_are_said_first(tmp_path):
    runs = [finished(tmp_path / "a", {"ipip": 1.0}), finished(tmp_path / "b", {"ipip": 2.0}, test="bb")]
    text = compared(*runs, "--html", tmp_path / "page.html")
    assert text.startswith("NOT COMPARABLE: the runs have different test frames (a: sha256:aa; b: sha256:bb).")
    assert "the same file" not in text
    assert "NOT COMPARABLE" in opened(tmp_path / "page.html").text


def test_a_learning_curve_goes_along_the_labels(tmp_path):
    runs = [
        finished(
            tmp_path / f"n{n}-{seed}", {"ipip": 1e3 / n + seed, "scratch": 2e3 / n + seed, "teacher": 5.0},
            n_train=n, seed=seed,
        )
        for n in (10, 40) for seed in (0, 2)
    ]  # fmt: skip
    found = Comparison(read(runs))
    curve = found.curves()["test"]
    assert set(curve) == {"ipip", "scratch"}
    assert curve["ipip"] == [(20.0, 101.0, pytest.approx(2**0.5)), (50.0, 26.0, pytest.approx(2**0.5))]
    assert re.search(r"\n +50 +26.0 \+- 1.4 +51.0 \+- 1.4", str(found))
    found.write_html(tmp_path / "page.html")
    page = opened(tmp_path / "page.html")
    assert "Learning curves" in page.words
    assert len(page.images()) == 2
    assert not Comparison(read(runs[:2])).curves()  # one number of labels
    split_by = [finished(tmp_path / f"o{n}", {"ipip": 9.0}, n_train=n, finetune={"lr": n}) for n in (10, 40)]
    assert not Comparison(read(split_by)).curves()  # something else differs too, so no line joins them


def test_a_grid_stands_for_its_finished_runs(tmp_path):
    grid = tmp_path / "x-ablate"
    for lr in (1, 2):
        finished(grid / f"lr={lr}" / "seed-0", {"ipip": 10.0 * lr}, finetune={"lr": lr})
    (grid / "lr=3/seed-0").mkdir(parents=True)
    (grid / "ablate.yaml").write_text("")
    assert [run.name for run in read([grid, grid / "lr=1/seed-0"])] == ["lr=1/seed-0", "lr=2/seed-0"]
    for path in grid.glob("*/*/compare.csv"):
        path.unlink()
    with pytest.raises(WorkspaceError, match="none of its runs is finished"):
        read([grid])


def test_broken_runs_are_named(tmp_path):
    run = finished(tmp_path / "a", {"ipip": 1.0})
    good = finished(tmp_path / "b", {"ipip": 1.0})
    for name, text in (("compare.csv", "model\nipip\n"), ("recipe.yaml", "{"), ("recipe.yaml", "- 1")):
        kept = (run / name).read_text()
        (run / name).write_text(text)
        with pytest.raises(WorkspaceError, match="is corrupt"):
            read([good, run])
        (run / name).write_text(kept)
    with pytest.raises(WorkspaceError, match="can't be written"):
        Comparison(read([good, run])).write_html(tmp_path / "nowhere/page.html")
