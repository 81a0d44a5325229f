"""The commands, each on a small finished run."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from alloy import refused, write_recipe
from ase.calculators.emt import EMT
from click.testing import CliRunner
from killed import killed

from ipip_ext import __version__, load_calculator, runner
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.errors import StageFailed
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run.events import read_events

RUN = Path("runs/tiny")
TABLE_HEAD = "model                 test F MAE"


def cli(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def times(folder: Path = RUN) -> dict[str, int]:
    """Return when each finished stage was written."""
    return {str(p.parent.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("stage.json")}


def computed(folder: Path = RUN) -> list[str]:
    """Return the stages that the last run computed."""
    events = list(read_events(folder / "events.jsonl"))
    last = max(i for i, event in enumerate(events) if (event.kind, event.name) == ("run", "started"))
    return [event.stage for event in events[last:] if (event.kind, event.name) == ("stage", "started")]


@pytest.fixture
def finished(tmp_path, finished_run, monkeypatch) -> Path:
    """A copy of the finished run."""
    shutil.copytree(finished_run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path()


def test_version_and_help():
    assert cli("--version").strip() == f"ipip-mace, version {__version__}"
    for name in main.commands:
        assert name in cli("--help")
        assert len(cli(name, "-h").splitlines()[2].strip()) > 10  # says what it does


def test_init_writes_a_recipe_that_only_lacks_the_data(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli("init")
    text = Path("recipe.yaml").read_text()
    raw = yaml.safe_load(text)
    assert set(raw) == set(Recipe.model_fields)
    for name in ("data", "explore", "finetune", "student", "evaluate", "tracking"):
        assert set(raw[name]) >= set(getattr(Recipe.model_fields[name].annotation, "model_fields", {}))
    keys = [i for i, line in enumerate(text.splitlines()) if line and not line.lstrip().startswith("#")]
    commented = [i for i in keys if text.splitlines()[i - 1].lstrip().startswith("#")]
    assert len(commented) >= len(keys) - 3  # a discriminating key may explain itself
    sets = [
        f"data.train={alloy_data}/train.extxyz", f"data.test={alloy_data}/test.extxyz",
        f"explore.starts={alloy_data}/starts.extxyz", "teacher={python: 'ase.calculators.emt:EMT'}",
        "student.hidden_irreps=4x0e", "data.valid_fraction=0.25", "evaluate.speed_supercell=[1, 1, 1]",
    ]  # fmt: skip
    assert "12 train, 4 valid" in cli("check", "recipe.yaml", *(part for value in sets for part in ("--set", value)))


def test_check_plans_and_writes_nothing(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data)
    plan = cli("check", "recipe.yaml")
    for word in ("12 train, 4 valid, 6 test frames", "python:EMT", "616 parameters", "2 replicas x 40 steps",
                 "2 iterations", "explore (teacher MD)", "pretrain x 2", "finetune x 2", "sample x 1",
                 "label x 1", "from-scratch baseline", "all"):  # fmt: skip
        assert word in plan
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_schema():
    schema = json.loads(cli("schema"))
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["additionalProperties"] is False
    page = cli("schema", "--markdown")
    assert page.startswith("# Recipe reference\n")
    assert page.endswith("|\n")
    assert not page.endswith("\n\n")


def test_status(finished):
    stages, spent = cli("status", RUN).split("\n\n")
    lines = stages.splitlines()
    assert spent.startswith("where the time went")
    assert [line.split()[1] for line in lines[:-1]] == sorted(times(), key=lambda name: times()[name])
    assert all(line.startswith("done ") for line in lines[:-1])
    assert "finished" in lines[-1]
    assert "meV/A" in next(line for line in lines if "iter-01/finetune" in line)

    for name in ("model", "speed", "report", "baseline-teacher", "baseline-scratch", "iter-01/evaluate"):
        shutil.rmtree(RUN / name)
    for path in RUN.glob("compare.*"):
        path.unlink()
    (RUN / "iter-01/finetune").rename(RUN / "iter-01/finetune.part")
    record = json.loads((RUN / "iter-01/finetune.part/stage.json").read_text())
    (RUN / "iter-01/finetune.part/stage.json").unlink()
    (RUN / "iter-01/finetune.part/part.json").write_text(json.dumps(record["fingerprint"]))
    *_, under_way, last = cli("status", RUN).split("\n\n")[0].splitlines()
    assert under_way == "under way iter-01/finetune"
    assert last.startswith("not finished: `ipip-mace run`")

    before = times()
    cli("run", "recipe.yaml")
    assert computed()[:2] == ["iter-01/finetune", "iter-01/evaluate"]
    before.pop("home")  # it is of the model that was exported anew
    assert before.items() <= times().items()
    assert cli("compare", RUN).startswith(f"{RUN}\n{TABLE_HEAD}")


def test_compare_shows_a_run_as_it_is_and_several_in_one_table(finished):
    table = (RUN / "compare.txt").read_text()
    assert cli("compare", RUN) == cli("compare", RUN, RUN) == f"{RUN}\n{table}\n"
    shutil.copytree(RUN, "runs/other")
    head, _, *lines = cli("compare", RUN, "runs/other").splitlines()
    assert head.split()[:3] == ["run", "model", "test"]
    own = next(line for line in table.splitlines() if line.startswith("ipip ")).split()
    assert [line.split() for line in lines if " ipip " in line] == [["tiny", *own], ["other", *own]]
    assert "Test frames: the same file in all runs" in "\n".join(lines)


def test_evaluate_agrees_with_a_hand_computation(finished):
    frames = fr.read_frames(Path("data/test.extxyz"))
    emt = "python: ase.calculators.emt:EMT"
    models = {
        str(RUN): load_calculator(RUN),
        str(RUN / "iter-00/finetune/model"): load_calculator(RUN / "iter-00/finetune/model"),
        str(RUN / "model/student.model"): load_calculator(RUN),
        emt: EMT(),
        f"{{{emt}, kwargs: {{asap_cutoff: true}}}}": EMT(asap_cutoff=True),
    }
    for model, calculator in models.items():
        force, energy, angle_deg, weight = [], [], [], []
        for frame in frames:
            atoms = frame.copy()
            atoms.calc = calculator
            said, true = atoms.get_forces(), frame.arrays[fr.FORCES]
            force.append(1000 * (said - true))
            sine, cosine = np.linalg.norm(np.cross(said, true), axis=1), (said * true).sum(axis=1)
            angle_deg.append(np.degrees(np.arctan2(sine, cosine)))
            weight.append(np.linalg.norm(true, axis=1))
            energy.append(1000 * (atoms.get_potential_energy() - frame.info[fr.ENERGY]) / len(frame))
        expected = {
            "force_mae_meV_per_A": np.mean(np.abs(force)),
            "force_rmse_meV_per_A": np.sqrt(np.mean(np.square(force))),
            "force_p95_meV_per_A": np.quantile(np.abs(force), 0.95),
            "force_angle_deg": np.average(angle_deg, weights=weight),
            "energy_mae_meV_per_atom": np.mean(np.abs(energy)),
            "energy_rmse_meV_per_atom": np.sqrt(np.mean(np.square(energy))),
            "energy_p95_meV_per_atom": np.quantile(np.abs(energy), 0.95),
        }
        found = json.loads(cli("evaluate", model, "data/test.extxyz", "--json", "--batch-size", 4))
        assert (found.pop("model"), found.pop("data"), found.pop("n_frames")) == (model, "data/test.extxyz", 6)
        angle = found.pop("force_angle_deg"), expected.pop("force_angle_deg")
        assert angle[0] == pytest.approx(angle[1], abs=1e-5), model  # an arccos near 1 has no more digits
        from_home = {key: found.pop(key) for key in ("n_frames_outside", "home_rank_correlation") if key in found}
        assert bool(from_home) == (model == str(RUN))  # only what is handed out tells where it is at home
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6), model
        lines = cli("evaluate", model, "data/test.extxyz").splitlines()
        assert lines[0] == f"{model} on 6 frames of data/test.extxyz"
        assert float(lines[1].split()[-1]) == pytest.approx(expected["force_mae_meV_per_A"], abs=0.006)


def test_the_table_holds_what_evaluate_says(finished):
    found = json.loads(cli("evaluate", RUN, "data/test.extxyz", "--json"))
    row = (RUN / "compare.csv").read_text().splitlines()[1].split(",")
    assert row[:4] == ["ipip", "ipip", "test", "6"]
    said = [found[key] for key in ("force_mae_meV_per_A", "force_rmse_meV_per_A", "energy_mae_meV_per_atom")]
    assert [float(value) for value in row[4:7]] == pytest.approx(said, rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [(), ("tracking.enabled=false",), ("device=auto",), ("min_improvement=0.001",), ("tracking.experiment=other",)],
)
def test_a_second_run_trains_nothing(finished, changes, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before, table = times(), (RUN / "compare.csv").read_bytes()
    output = cli("run", "recipe.yaml", *(part for change in changes for part in ("--set", change)))
    # it may be another iteration's model then, and the page of the report shows the recipe
    made = [stage for stage in computed() if stage != "home"]  # of the model that was exported anew
    assert made == (["model", "report"] if "min_improvement=0.001" in changes else [])
    assert made or not computed()
    assert {stage: t for stage, t in times().items() if stage not in computed()} == {
        stage: t for stage, t in before.items() if stage not in computed()
    }
    assert (RUN / "compare.csv").read_bytes() == table
    assert TABLE_HEAD in output


def test_fewer_and_more_iterations_reuse_what_is_there(finished):
    before = times()
    Path("data").rename("moved")  # it is the content that counts
    write_recipe(Path(), Path("moved"), iterations=1)
    cli("run", "recipe.yaml")
    assert set(computed()) <= {"model", "home", "speed", "report"}
    assert "iteration-1" not in cli("compare", RUN)

    shutil.rmtree(RUN / "iter-01")
    write_recipe(Path(), Path("moved"), iterations=2)
    cli("run", "recipe.yaml")
    assert computed()[:3] == ["iter-01/pretrain", "iter-01/finetune", "iter-01/evaluate"]
    assert set(computed()[3:]) <= {"model", "home", "speed", "report"}
    assert "iteration-1" in cli("compare", RUN)
    kept = {name for name in before if times()[name] == before[name]}
    assert kept >= {name for name in before if name.startswith(("iter-00", "baseline", "prepare", "explore"))}


def test_redo_starts_over_from_a_stage(finished):
    before = times()
    cli("run", "recipe.yaml", "--redo", "finetune", "--set", "finetune.lr=0.004")
    after = times()
    kept = {"prepare", "explore", "iter-00/pretrain"}
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] == before[name]} == kept
    assert set(computed()) == before.keys() - kept
    assert yaml.safe_load((RUN / "recipe.yaml").read_text())["finetune"]["lr"] == 0.004


def test_redo_mends_what_was_damaged(finished):
    table = (RUN / "compare.csv").read_bytes()
    (RUN / "report/compare.csv").write_text("")
    assert "--redo report" in CliRunner().invoke(main, ["run", "recipe.yaml"]).stderr
    cli("run", "recipe.yaml", "--redo", "report")
    assert computed() == ["report"]
    assert (RUN / "compare.csv").read_bytes() == table


def test_workdir_and_offline_tracking(tmp_path, finished_run, monkeypatch):
    """What a run without tracking holds reaches a store later, once."""
    shutil.copytree(finished_run / "runs/tiny", tmp_path / "elsewhere/run")
    shutil.copytree(finished_run / "data", tmp_path / "data")
    shutil.copy(finished_run / "recipe.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = Path("elsewhere/run")
    before = times(folder)
    uri = f"sqlite:///{tmp_path}/later.db"
    sets = [f"tracking.uri={uri}", "tracking.enabled=false"]
    cli("run", "recipe.yaml", "--workdir", folder, *(part for value in sets for part in ("--set", value)))
    assert times(folder) == before
    assert not Path("runs").exists()
    assert not list(Path().glob("*.db"))

    events = sum(1 for _ in read_events(folder / "events.jsonl"))
    assert cli("track", folder) == f"{events} events mirrored to {uri}\n"
    assert cli("track", folder) == f"0 events mirrored to {uri}\n"

    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("ipip-mace").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"tiny", "iteration 0", "iteration 1", "teacher", "scratch"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    found = json.loads(cli("evaluate", folder, "data/test.extxyz", "--json"))["force_mae_meV_per_A"]
    assert runs["tiny"].data.metrics["test_force_mae_meV_per_A"] == pytest.approx(found, rel=1e-4)


def test_an_interrupt_and_a_failure_are_told_apart(finished, monkeypatch):
    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    def fail(*args: object, **options: object) -> None:
        raise StageFailed("explore: it\n  burst")

    def bug(*args: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(runner, "run", stop)
    done = CliRunner().invoke(main, ["run", "recipe.yaml"])
    assert (done.exit_code, done.stderr) == (130, "interrupted; the same command goes on from here\n")
    monkeypatch.setattr(runner, "run", fail)
    done = CliRunner().invoke(main, ["run", "recipe.yaml"])
    assert (done.exit_code, done.stderr) == (1, "failed: explore: it burst\n")
    monkeypatch.setattr(runner, "run", bug)
    with pytest.raises(ZeroDivisionError):  # a bug of ours keeps its traceback
        CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)


def test_the_loop_stops_when_an_iteration_no_longer_pays(finished):
    """Two iterations are there; asked for four that must each halve the error, it trains no third."""
    cli("run", "recipe.yaml", "--set", "iterations=4", "--set", "min_improvement=0.5")
    assert not any("pretrain" in stage for stage in computed())
    assert not (RUN / "iter-02").exists()


def test_keys_that_came_later_count_as_their_defaults(finished):
    """An update that brings a key neither refuses a finished run nor recomputes any of it."""
    recipe = yaml.safe_load((RUN / "recipe.yaml").read_text())
    del recipe["label"]["relabel"], recipe["select"]["density_factor"], recipe["correct"]["damping"]
    recipe["noted"] = {date(2026, 1, 2): date(2026, 1, 2)}
    (RUN / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    said = refused("run", "recipe.yaml")
    assert "recipe.yaml: is corrupt" in said

    del recipe["noted"]
    (RUN / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    said = refused("run", "recipe.yaml", "--set", "select.density_factor=2")
    assert "select.density_factor is None there and 2.0 here" in said
    before = times()
    cli("run", "recipe.yaml")
    assert times() == before


def test_labels_by_the_student_itself(finished, monkeypatch):
    with killed(monkeypatch, at=("started", "iter-00/forget")):  # the labels are there by then
        cli("run", "recipe.yaml", "--redo", "label", "--set", "label.policy=self", "--set", "label.retain=0.25")
    pool = fr.read_frames(RUN / "iter-00/label/pool.extxyz")
    assert [frame.info[fr.SOURCE] for frame in pool] == ["self:iter-00"] * 16 + ["teacher:python:EMT"] * 4
    student = load_calculator(RUN / "iter-00/finetune/model")
    atoms = pool[0].copy()
    atoms.calc = student
    assert np.allclose(atoms.get_forces(), pool[0].arrays[fr.FORCES], atol=1e-4)

    given = ("--set", "label.policy=self", "--set", "label.retain=0.25", "--set", "label.relabel=true")
    cli("run", "recipe.yaml", "--redo", "label", *given)
    anew = fr.read_frames(RUN / "iter-00/label/pool.extxyz")
    assert [frame.info[fr.SOURCE] for frame in anew] == ["self:iter-00"] * 20
    assert [frame.info[fr.ID] for frame in anew] == [frame.info[fr.ID] for frame in pool]
    atoms = anew[-1].copy()
    atoms.calc = student
    assert np.allclose(atoms.get_forces(), anew[-1].arrays[fr.FORCES], atol=1e-4)
    assert not np.allclose(anew[-1].arrays[fr.FORCES], pool[-1].arrays[fr.FORCES], atol=1e-4)


@pytest.mark.parametrize("ensemble", ["nve", "nvt_bussi"])
def test_the_other_ensembles_explore(tmp_path, alloy_data, monkeypatch, ensemble):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data, explore__ensemble=ensemble, iterations=1, tracking__enabled=False)
    cli("run", "recipe.yaml")
    assert len(fr.read_frames(RUN / "explore/frames.extxyz")) == 16
