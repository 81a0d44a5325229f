"""Other test frames, or other splits of them, cost a finished run its evaluations and its report, and nothing else."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from alloy import assert_refused, cell, contents, label, refused
from click.testing import CliRunner

from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.run.events import read_events

pytestmark = pytest.mark.slow

RUN = Path("runs/tiny")
EVALUATIONS = {"home", "iter-00/evaluate", "iter-01/evaluate", "baseline-teacher/evaluate", "baseline-scratch/evaluate"}


def ran(**data: object) -> set[str]:
    """Run the recipe with these keys of `data`; return the stages that were made anew."""
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    recipe["data"] |= data
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    before = len(list(read_events(RUN / "events.jsonl")))
    done = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = list(read_events(RUN / "events.jsonl"))[before:]
    return {event.stage for event in told if (event.kind, event.name) == ("stage", "started")}


def table() -> dict[tuple[str, str], dict[str, str]]:
    with (RUN / "compare.csv").open() as file:
        return {(row["model"], row["split"]): row for row in csv.DictReader(file)}


def all_hold() -> bool:
    done = CliRunner().invoke(main, ["verify", str(RUN)], catch_exceptions=False)
    return done.exit_code == 0 and "WRONG" not in done.output


def test_other_starts_out_of_distribution_divide_the_table_alone(finished):
    before, weights = table(), contents(RUN / "model")
    assert ran(ood={"key": "start", "values": ["s1"]}) == {"prepare", *EVALUATIONS, "report"}
    after = table()
    same = [key for key in after["ipip", "test"] if key != "training_wall_s"]
    assert [after["ipip", "test"][key] for key in same] == [before["ipip", "test"][key] for key in same]
    assert after["ipip", "test_ood"]["force_mae_meV_per_A"] != before["ipip", "test_ood"]["force_mae_meV_per_A"]
    assert contents(RUN / "model") == weights
    assert ran() == set()
    assert ran(ood=None) == {"prepare", *EVALUATIONS, "report"}
    assert {split for _, split in table()} == {"test"}


def test_named_sets_are_splits_and_a_frame_without_forces_counts_for_its_energy(finished):
    scan = [label(cell(300 + i, 0.15), start="s0") for i in range(4)]
    for frame in scan:
        del frame.arrays[fr.FORCES]
    fr.write_frames(Path("data/scan.extxyz"), scan)
    before = table()
    sets = {"300K": "data/test.extxyz@:4", "rest": "data/test.extxyz@4:", "scan": "data/scan.extxyz"}
    assert ran(test=sets) == {"prepare", *EVALUATIONS, "report"}
    after = table()
    splits = ["test", "test_id", "test_ood", "test_300K", "test_rest", "test_scan"]
    assert [split for model, split in after if model == "ipip"] == splits
    assert [after["ipip", split]["n_frames"] for split in splits] == ["10", "8", "2", "4", "2", "4"]
    whole, alone = after["ipip", "test"], after["ipip", "test_scan"]
    force = "force_mae_meV_per_A"
    assert float(whole[force]) == pytest.approx(float(before["ipip", "test"][force]), rel=1e-4)
    parts = [float(after["ipip", split][force]) for split in ("test_300K", "test_rest")]
    assert float(whole[force]) == pytest.approx((4 * parts[0] + 2 * parts[1]) / 6, rel=1e-4)
    assert [alone[key] for key in alone if key.startswith("force")] == [""] * 6
    assert float(alone["energy_mae_meV_per_atom"]) > 0
    with (RUN / "iter-00/evaluate/per_frame.csv").open() as file:
        of = {row["frame_id"]: row["split"] for row in csv.DictReader(file)}
    assert of["test-scan-00003"] == "test_scan"
    metrics = [event.data["metrics"] for event in read_events(RUN / "events.jsonl") if event.kind == "row"][-1]
    assert {"test_300K_force_mae_meV_per_A", "test_scan_energy_mae_meV_per_atom"} <= set(metrics)
    assert "test_scan_force_mae_meV_per_A" not in metrics
    for name in ("compare.csv", "compare.txt", "breakdown.csv", "report.html"):
        assert "nan" not in (RUN / name).read_text().lower().replace("nanometre", "").split()
        assert ">nan<" not in (RUN / name).read_text()
    assert all_hold()
    assert "test_300K" in CliRunner().invoke(main, ["compare", str(RUN)], catch_exceptions=False).output


def test_energies_alone_can_be_compared(finished):
    frames = fr.read_frames(Path("data/test.extxyz"))
    for frame in frames:
        del frame.arrays[fr.FORCES]
    fr.write_frames(Path("data/scan.extxyz"), frames)
    ran(test="data/scan.extxyz")
    assert {row["force_mae_meV_per_A"] for row in table().values()} == {""}
    assert "No test frame has forces to compare" in (RUN / "report.html").read_text()
    assert all_hold()
    done = CliRunner().invoke(main, ["compare", str(RUN), str(RUN), "--html", "both.html"], catch_exceptions=False)
    assert done.exit_code == 0


def test_new_test_frames_are_looked_for_in_what_was_trained_on(finished):
    pool = fr.read_frames(RUN / "iter-00/label/pool.extxyz")
    fr.write_frames(Path("data/seen.extxyz"), [label(pool[3], frame_id="seen")])
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    recipe["data"]["test"] = {"fresh": "data/test.extxyz", "seen": "data/seen.extxyz"}
    Path("other.yaml").write_text(yaml.safe_dump(recipe))
    words = ("iter-00/label/pool.extxyz: 1 frames to train on are near duplicates of test frames", "test-seen-00000")
    assert_refused(words, "run", "other.yaml")
    assert all_hold()


def test_other_training_frames_are_refused_as_ever(finished):
    frames = fr.read_frames(Path("data/train.extxyz"))
    fr.write_frames(Path("data/train.extxyz"), frames[:-1])
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    del recipe["data"]["ood"]
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "prepare: was made with inputs.train" in refused("run", "recipe.yaml")
    assert json.loads((RUN / "prepare/stage.json").read_text())["values"]["n_train"] == 12
