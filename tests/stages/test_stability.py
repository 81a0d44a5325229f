"""MD stability: counted right, the same walks for every model, nothing a model does ends the run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from alloy import cell, write_recipe
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.md import engine
from ipip_ext.recipe.evaluate import Stability
from ipip_ext.recipe.walk import Guard
from ipip_ext.run.events import Event, EventBus, read_events
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.inputs import Calculator, Model
from ipip_ext.stages.stability import as_md, stability

EMT = Model(Calculator({"python": "ase.calculators.emt:EMT"}))
STIFF = Model(Calculator({"python": "ase.calculators.lj:LennardJones", "kwargs": {"sigma": 3.0, "epsilon": 1.0}}))
"""Its atoms want to be farther apart than the starts have them."""
FRAGILE = Stability(
    temperatures_K=(50.0, 3000.0), time_ps=0.1, timestep_fs=2.0, replicas=3, guard=Guard(max_force_eV_per_A=3.0)
)
"""50 steps, which a cold walk takes and a hot one does not."""


@pytest.fixture
def starts(tmp_path) -> Path:
    path = tmp_path / "starts.extxyz"
    fr.write_frames(path, [cell(1, 0.01), cell(2, 0.01)])
    return path


def measure(root: Path, starts: Path, model: object, settings: Stability = FRAGILE, at: str = "a", **more) -> Done:
    bus = EventBus(more.pop("sinks", []))
    walk = as_md(settings, starts, max_batch_replicas=4)
    return Workspace(root, bus).at(at).do(stability, walk, model=model, starts=walk.starts, seed=more.pop("seed", 7))


def walks_of(done: Done) -> list[dict[str, str]]:
    with done.walks.open() as file:
        return list(csv.DictReader(file))


def test_shares_count_the_walks_that_nothing_stopped(tmp_path, starts):
    said: list[Event] = []
    done = measure(tmp_path, starts, EMT, sinks=[said.append])
    walks, stops = walks_of(done), json.loads(done.stops.read_text())
    assert len(walks) == done.n_walks == 2 * 2 * 3
    hot = [stop for stop in stops if stop["temperature_K"] == 3000.0]
    assert stops == hot
    assert len(hot) > 0
    assert done.shares == {
        "md_sane_share_50K": 1.0,
        "md_sane_share_3000K": pytest.approx(1 - len(hot) / 6),
        "md_sane_share": pytest.approx(1 - len(hot) / 12),
    }
    assert {event.name: event.value for event in said if event.kind == "metric"} == done.shares
    (note,) = [event.name for event in said if event.kind == "note"]
    assert f"{12 - len(hot)} of 12 MD runs of 0.1 ps ended sanely (50K 6/6, 3000K {6 - len(hot)}/6)" in note
    stopped = {stop["replica"]: stop for stop in stops}
    for walk in walks:
        stop = stopped.get(walk["replica"])
        assert float(walk["time_ps"]) == pytest.approx(0.1 if stop is None else stop["md_step"] * 0.002)
        assert walk["reason"] == ("" if stop is None else stop["reason"])
    assert not (done.folder / "md").exists()


def test_a_worse_model_has_the_smaller_share(tmp_path, starts):
    good, bad = measure(tmp_path, starts, EMT, at="good"), measure(tmp_path, starts, STIFF, at="bad")
    assert bad.shares["md_sane_share"] < good.shares["md_sane_share"]


def test_walks_depend_on_the_seed_and_on_no_place(tmp_path, starts):
    one, other, reseeded = (
        measure(tmp_path, starts, EMT, at=at, seed=seed).stops.read_text()
        for at, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert one == other
    assert one != reseeded


def test_a_model_that_fails_everywhere_is_insane_and_no_error(tmp_path, starts):
    frames = [cell(1, 0.01)]
    frames[0].symbols[1] = "Fe"  # EMT knows no iron
    fr.write_frames(starts, frames)
    done = measure(tmp_path, starts, EMT)
    assert set(done.shares.values()) == {0.0}
    assert {walk["reason"] for walk in walks_of(done)} == {"calculator"}


def test_a_killed_measurement_goes_on_where_it_was(tmp_path, starts, monkeypatch):
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", 0.0)
    settings = FRAGILE.model_copy(update={"time_ps": 0.4, "guard": Guard()})
    whole = measure(tmp_path / "whole", starts, EMT, settings)
    shares: list[float] = []

    def kill(event: Event) -> None:
        if event.kind == "progress" and event.value > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "killed", starts, EMT, settings, sinks=[kill])
    sinks = [lambda event: shares.append(event.value) if event.kind == "progress" else None]
    resumed = measure(tmp_path / "killed", starts, EMT, settings, sinks=sinks)
    assert min(value for value in shares) > 0.3  # chunks that were walked are only read
    assert resumed.walks.read_text() == whole.walks.read_text()
    assert resumed.stops.read_text() == whole.stops.read_text()


def test_the_length_is_asked_for_in_ps_and_frames_kept_are_few(starts):
    walk = as_md(Stability(time_ps=5.0, timestep_fs=0.5), starts, 8)
    assert (walk.n_steps, walk.n_steps // walk.frame_every, walk.max_batch_replicas) == (10000, 20, 8)
    assert as_md(Stability(time_ps=0.001), starts, 8).frame_every == 1
    assert walk.starts == starts
    assert as_md(Stability(starts=Path("own")), starts, 8).starts == Path("own")
    assert walk.initial_temperature_factor == 1.0


# ---------------------------------------------------------------- in a run

SHORT = {"temperatures_K": [300, 600], "time_ps": 0.01}
KEYS = ["md_sane_share_300K", "md_sane_share_600K", "md_sane_share"]


@pytest.fixture
def finished(tmp_path, finished_run, monkeypatch) -> Path:
    """A copy of the finished run, whose recipe now asks for stability."""
    shutil.copytree(finished_run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    write_recipe(Path(), Path("data"), evaluate__stability=SHORT)
    return Path("runs/tiny")


def run(*sets: str) -> str:
    done = CliRunner().invoke(main, ["run", "recipe.yaml", *sets], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_a_finished_run_adds_the_measurement_and_nothing_else(finished):
    printed = run()
    events = list(read_events(finished / "events.jsonl"))
    last = max(i for i, event in enumerate(events) if (event.kind, event.name) == ("run", "started"))
    computed = [e.stage for e in events[last:] if (e.kind, e.name) == ("stage", "started")]
    best = json.loads((finished / "model/stage.json").read_text())["values"]["iteration"]
    where = {"ipip": f"iter-0{best}", "teacher (python:EMT)": "baseline-teacher", "scratch": "baseline-scratch"}
    assert computed == [*(f"{at}/stability" for at in where.values()), "speed", "report"]

    with (finished / "compare.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    for name, at in where.items():
        shares = json.loads((finished / at / "stability/stage.json").read_text())["values"]["shares"]
        assert {key: float(rows[name][key]) for key in KEYS} == shares
    assert rows["teacher (python:EMT)"]["md_sane_share"] == "1.0"
    assert all(rows[f"iteration-{1 - best}"][key] == "" for key in KEYS)
    head, _, ipip, *_ = printed.strip().splitlines()
    assert head.endswith("sane 300K  sane 600K  sane")
    assert ipip.split()[-1] == f"{float(rows['ipip']['md_sane_share']):.0%}"
    assert "share of 4 Langevin MD runs of 0.01 ps" in printed

    client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ipip-mace"]
    stored = {r.info.run_name: r.data.metrics for r in client.search_runs([experiment.experiment_id])}
    for title, name in (("tiny", "ipip"), ("teacher", "teacher (python:EMT)"), ("scratch", "scratch")):
        at = {key: key if key == "md_sane_share" else f"work.detail.{key}" for key in KEYS}
        assert {key: stored[title][at[key]] for key in KEYS} == {key: float(rows[name][key]) for key in KEYS}
    assert "md_sane_share" not in stored[f"iteration {1 - best}"]

    run("--set", "evaluate.stability.models=[ipip, scratch]")
    with (finished / "compare.csv").open() as file:
        walked = {row["model"] for row in csv.DictReader(file) if row["md_sane_share"]}
    assert walked == {"ipip", f"iteration-{best}", "scratch"}  # the student is that iteration's

    run("--set", "evaluate.stability.every_iteration=true")
    with (finished / "compare.csv").open() as file:
        assert all(row[key] for row in csv.DictReader(file) for key in KEYS)


def refused(command: str, *sets: str) -> str:
    done = CliRunner().invoke(main, [command, "recipe.yaml", *(part for one in sets for part in ("--set", one))])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("command", ["check", "run"])
def test_what_cannot_be_walked_is_refused_before_anything_is_computed(tmp_path, alloy_data, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data, evaluate__stability={"starts": "own.extxyz"})
    assert f"{tmp_path / 'own.extxyz'}: no such file" in refused(command)
    iron = cell(0)
    iron.symbols[0] = "Fe"
    fr.write_frames(tmp_path / "own.extxyz", [iron])
    assert "own.extxyz: frame 0 holds Fe" in refused(command)
    assert "time_ps is shorter than timestep_fs" in refused(command, "evaluate.stability={time_ps: 0.0001}")
    assert "Did you mean time_ps?" in refused(command, "evaluate.stability={time_s: 1}")
    told = refused(command, "evaluate.stability={models: [ipip, techer]}")
    assert "evaluate.stability.models: techer is none of this run's models; take of ipip, teacher, scratch" in told
    assert not (tmp_path / "runs").exists()


def test_check_tells_what_it_will_cost(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data, evaluate__stability={**SHORT, "every_iteration": True})
    done = CliRunner().invoke(main, ["check", "recipe.yaml"], catch_exceptions=False)
    assert "stability 4 MD runs of 0.01 ps for each of 4 models" in done.stdout  # 2 iterations, scratch, teacher
    assert "stability x 4 (MD)" in done.stdout
    some = CliRunner().invoke(main, ["check", "recipe.yaml", "--set", "evaluate.stability.models=[scratch, teacher]"])
    assert "stability x 4 (MD)" in some.stdout  # every iteration is, whether chosen or not
