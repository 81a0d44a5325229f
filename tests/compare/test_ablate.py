"""Ablations as their user meets them: what is shared, what the table says, what goes on."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from alloy import assert_refused, write_alloy, write_recipe
from click.testing import CliRunner

from ipip_ext import runner
from ipip_ext.cli.main import main
from ipip_ext.errors import StageFailed
from ipip_ext.report.html.against import ENERGY, FORCE
from ipip_ext.run.events import read_events
from ipip_ext.stages.report import COLUMNS
from ipip_ext.tracking.names import name_of

GRID = Path("runs/tiny-ablate")
SLOW, FAST = "finetune.lr=0.003", "finetune.lr=0.01"
COMMAND = ("ablate", "recipe.yaml", "--vary", "finetune.lr=0.003,0.01", "--seeds", "2")
SPLITS = ("test", "test_id", "test_ood")


def cli(*arguments: object):
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def said(folder: Path, *names: str) -> list[tuple[str, str]]:
    """Return (name, stage) of the stage events of the last run in `folder` that are called one of `names`."""
    events = list(read_events(folder / "events.jsonl"))
    last = max(i for i, event in enumerate(events) if (event.kind, event.name) == ("run", "started"))
    return [(e.name, e.stage) for e in events[last:] if e.kind == "stage" and e.name in names]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def number(folder: Path, model: str, split: str, column: str) -> float:
    rows = rows_of(folder / "compare.csv")
    return float(next(row[column] for row in rows if (row["model"], row["split"]) == (model, split)))


@pytest.fixture(scope="module")
def finished_grid(tmp_path_factory) -> Path:
    """A folder with recipe.yaml, data/, mlflow.db and a finished grid of 2 variants x 2 seeds."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "data").mkdir()
    write_alloy(folder / "data")
    write_recipe(folder, Path("data"), iterations=1, baselines=[{"kind": "teacher"}], pretrain__epochs=1)
    with contextlib.chdir(folder):
        done = cli(*COMMAND)
    (folder / "said.txt").write_text(done.stderr)
    return folder


@pytest.fixture
def grid(tmp_path, finished_grid, monkeypatch) -> Path:
    """A copy of the finished grid."""
    shutil.copytree(finished_grid, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return GRID


# ---------------------------------------------------------------- a grid as its user meets it


@pytest.mark.slow
def test_what_variants_share_is_computed_once_a_seed(finished_grid):
    shared = {"prepare", "explore", "iter-00/pretrain", "baseline-teacher/evaluate"}
    own = {"iter-00/finetune", "iter-00/evaluate", "model", "home", "speed", "report"}
    for seed in (3, 4):
        first, second = (finished_grid / GRID / variant / f"seed-{seed}" for variant in (SLOW, FAST))
        assert {stage for _, stage in said(first, "started")} == shared | own
        assert said(first, "borrowed") == []
        assert {stage for _, stage in said(second, "started")} == own
        assert {stage for _, stage in said(second, "borrowed")} == shared
        for stage in shared:
            assert (first / stage / "stage.json").read_bytes() == (second / stage / "stage.json").read_bytes()
    assert not list((finished_grid / GRID).rglob("*.part"))


TIMED = ("md_step_ms", "training_wall_s")


@pytest.mark.slow
def test_a_shared_run_is_the_run_alone(grid):
    cli("run", "recipe.yaml", "--set", "finetune.lr=0.01", "--set", "seed=4", "--workdir", "alone",
        "--set", "tracking.enabled=false")  # fmt: skip
    together, alone = (
        [{key: v for key, v in row.items() if key not in TIMED} for row in rows_of(folder / "compare.csv")]
        for folder in (grid / FAST / "seed-4", Path("alone"))
    )
    assert together == alone


@pytest.mark.slow
def test_the_csv_holds_every_row_of_every_run(finished_grid):
    folder = finished_grid / GRID
    rows = rows_of(folder / "ablate.csv")
    assert tuple(rows[0]) == ("variant", "finetune.lr", "seed", "n_train", *COLUMNS)
    expected = [
        {"variant": variant, "finetune.lr": variant.split("=")[1], "seed": str(seed), "n_train": "12", **row}
        for seed in (3, 4)
        for variant in (SLOW, FAST)
        for row in rows_of(folder / variant / f"seed-{seed}" / "compare.csv")
    ]
    assert rows == expected
    assert {row["model"] for row in rows} == {"ipip", "teacher (python:EMT)", "iteration-0"}


@pytest.mark.slow
def test_the_table_holds_what_one_computes_by_hand(finished_grid):
    folder = finished_grid / GRID
    measures = [*((split, FORCE) for split in SPLITS), ("test", ENERGY)]
    value = {
        variant: np.array([[number(folder / variant / f"seed-{s}", "ipip", *m) for m in measures] for s in (3, 4)])
        for variant in (SLOW, FAST)
    }
    lines = (folder / "ablate.txt").read_text().splitlines()
    for variant, numbers in value.items():
        cells = [f"{m:.1f} +- {s:.1f}" for m, s in zip(numbers.mean(0), numbers.std(0, ddof=1), strict=True)]
        (line,) = [line for line in lines if line.startswith(variant)]
        assert line.split() == [variant, "ipip", "12", "2", *" ".join(cells).split()]
    difference = value[FAST] - value[SLOW]
    means, sds = difference.mean(0), difference.std(0, ddof=1)
    found = [line for line in lines if line.startswith(f"ipip: {FAST} - {SLOW}")]
    for line, (split, column), mean, sd in zip(found, measures, means, sds, strict=True):
        name = "F MAE" if column == FORCE else "E MAE"
        verdict = "exceeds" if abs(mean) > 12.7062 * sd / math.sqrt(2) else "within"  # t for 2 seeds, 95 %
        wanted = f"{split} {name} {mean:+.1f} {sd:.1f} 2 {verdict} the spread"
        assert line.split()[4:] == wanted.split()


@pytest.mark.slow
def test_progress_is_a_line_a_run_and_is_kept(finished_grid):
    told = (finished_grid / "said.txt").read_text().splitlines()
    lines = [line for line in told if not line.startswith("check:")]  # which speaks where it takes long
    assert lines[0] == f"4 runs in {GRID}: 2 variants, seeds 3, 4"
    assert [line.split(": ")[0] for line in lines[1:]] == [
        f"[1/4] {SLOW}, seed 3", f"[2/4] {FAST}, seed 3", f"[3/4] {SLOW}, seed 4", f"[4/4] {FAST}, seed 4",
    ]  # fmt: skip
    assert all("done in" in line and "to go" in line for line in lines[1:-1])
    assert "to go" not in lines[-1]
    log = (finished_grid / GRID / "log.txt").read_text()
    assert all(line in log for line in lines)


@pytest.mark.slow
def test_the_store_nests_every_run_under_the_grid(finished_grid):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{finished_grid / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("ipip-mace").experiment_id])
    (top,) = [run for run in runs if run.data.tags["role"] == "ablation"]
    assert (top.info.run_name, top.info.status) == ("tiny ablate", "FINISHED")
    inner = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == top.info.run_id]
    tags = [{key: run.data.tags[f"ipip.{key}"] for key in ("grid", "variant", "seed")} for run in inner]
    assert sorted(map(json.dumps, tags)) == sorted(
        json.dumps({"grid": "tiny", "variant": v, "seed": s}) for v in (SLOW, FAST) for s in ("3", "4")
    )
    assert {run.info.run_name for run in inner} == {f"tiny {v} seed {s}" for v in (SLOW, FAST) for s in (3, 4)}
    assert len(runs) == 1 + 4 * (1 + 2)  # each with an iteration and a baseline of its own
    values = [number(finished_grid / GRID / FAST / f"seed-{s}", "ipip", "test", FORCE) for s in (3, 4)]
    found = {k: top.data.metrics[name_of(f"{FAST}/ipip_test_{FORCE}_{k}")] for k in ("mean", "sd")}
    assert found == pytest.approx({"mean": np.mean(values), "sd": np.std(values, ddof=1)})
    assert top.data.params["vary.finetune.lr"] == "0.003, 0.01"
    assert {item.path for item in client.list_artifacts(top.info.run_id)} == {
        "ablate.csv", "ablate.txt", "ablate.yaml"
    }  # fmt: skip


@pytest.mark.slow
def test_the_same_command_trains_nothing_and_goes_on_after_a_kill(grid, monkeypatch):
    table = (grid / "ablate.txt").read_bytes()
    folders = [grid / variant / f"seed-{seed}" for seed in (3, 4) for variant in (SLOW, FAST)]
    done = cli(*COMMAND)
    assert [said(folder, "started", "borrowed") for folder in folders] == [[]] * 4
    assert done.stderr.count("was finished") == 4
    assert (grid / "ablate.txt").read_bytes() == table

    shutil.rmtree(folders[3])
    (folders[2] / "compare.csv").unlink()
    real = runner.run

    def fail(recipe, folder, **options):
        if folder == folders[3]:
            raise StageFailed("explore: it burst")
        return real(recipe, folder, **options)

    monkeypatch.setattr(runner, "run", fail)
    stopped = CliRunner().invoke(main, list(COMMAND))
    assert (stopped.exit_code, stopped.stderr.splitlines()[-1]) == (1, f"failed: {FAST}, seed 4: explore: it burst")
    assert (folders[2] / "compare.csv").is_file()
    monkeypatch.setattr(runner, "run", real)
    cli(*COMMAND)
    assert "iter-00/pretrain" in {stage for _, stage in said(folders[3], "borrowed")}
    assert (grid / "ablate.txt").read_bytes() == table


@pytest.mark.slow
def test_an_unreachable_store_ends_nothing_and_track_mirrors_later(grid):
    from mlflow.tracking import MlflowClient

    assert cli("track", grid).stdout == "0 events mirrored to sqlite:///mlflow.db\n"
    cli(*COMMAND[:-1], 1, "--set", "tracking.uri=sqlite:////proc/nowhere/mlflow.db")
    plan = (grid / "ablate.yaml").read_text()
    (grid / "ablate.yaml").write_text(plan.replace("sqlite:////proc/nowhere/mlflow.db", "sqlite:///later.db"))
    assert int(cli("track", grid).stdout.split()[0]) > 100
    client = MlflowClient(tracking_uri=f"sqlite:///{Path('later.db').absolute()}")
    runs = client.search_runs([client.get_experiment_by_name("ipip-mace").experiment_id])
    assert {"tiny ablate", *(f"tiny {v} seed {s}" for v in (SLOW, FAST) for s in (3, 4))} < {
        run.info.run_name for run in runs
    }


@pytest.mark.slow
def test_a_learning_curve_from_the_command_line(task):
    few_steps = {"pretrain__epochs": 1, "finetune__epochs": 1, "baselines": [{"kind": "scratch", "fit": {"epochs": 1}}]}
    write_recipe(task, Path("data"), iterations=1, tracking={"enabled": False}, **few_steps)
    output = cli("ablate", "recipe.yaml", "--vary", "data.n_train=4,8", "--seeds", 1, "--workdir", "curve").stdout
    few, many = (Path("curve") / f"data.n_train={n}" / "seed-3" for n in (4, 8))
    assert (Path("curve") / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert {stage for _, stage in said(many, "borrowed")} == {"explore", "iter-00/pretrain"}
    assert [json.loads((f / "prepare/stage.json").read_text())["values"]["n_train"] for f in (few, many)] == [4, 8]
    for name in ("valid", "test"):
        assert (few / f"prepare/{name}.extxyz").read_bytes() == (many / f"prepare/{name}.extxyz").read_bytes()
    lines = output.splitlines()
    for split in SPLITS:
        start = next(i for i, line in enumerate(lines) if line.startswith(f"{split} F MAE by labels"))
        for folder, line in zip((few, many), lines[start + 2 :], strict=False):
            assert line.split()[1:] == [f"{number(folder, model, split, FORCE):.1f}" for model in ("ipip", "scratch")]
    assert output.count("one seed: no spread") == 4 * (2 + 2)
    assert not Path("mlflow.db").exists()


@pytest.mark.slow
def test_a_recipe_that_has_changed_is_refused_before_anything_runs(grid):
    assert_refused(("finetune.epochs is 4 there and 5 here",), *COMMAND, "--set", "finetune.epochs=5")
