"""Properties: each model's own curves, held against the reference that the recipe names, resumable like any stage."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from alloy import cell, label, write_recipe
from ase.calculators.emt import EMT
from click.testing import CliRunner

from ipip_ext import md
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.md import engine
from ipip_ext.measure import structure_functions as sf
from ipip_ext.measure.property_curves import agreement
from ipip_ext.recipe.evaluate import Properties
from ipip_ext.recipe.walk import Guard
from ipip_ext.run.events import Event, EventBus, read_events
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.inputs import Calculator, Measuring, Model
from ipip_ext.stages.properties import _strain_curves, as_nve, properties, trajectory_properties
from ipip_ext.teachers.ase_potential import AsePotential

EMT_ENTRY = Model(Calculator({"python": "ase.calculators.emt:EMT", "kwargs": {"asap_cutoff": True}}))
STIFF = Model(Calculator({"python": "ase.calculators.lj:LennardJones", "kwargs": {"sigma": 2.3, "epsilon": 0.4}}))
CURVES = ("strain", "rdf", "vdos")
SHORT = Properties(time_ps=0.2, timestep_fs=2.0, skip_ps=0.05, strains=(-0.02, 0.0, 0.02))


@pytest.fixture
def starts(tmp_path) -> Path:
    path = tmp_path / "starts.extxyz"
    fr.write_frames(path, [cell(1, 0.01), cell(2, 0.01)])
    return path


def measure(
    root: Path, starts: Path, model: object, settings: Properties = SHORT, at: str = "a", sinks=(), seed: int = 7
) -> Done:
    work = Workspace(root, EventBus(list(sinks)))
    return work.at(at).do(
        properties, as_nve(settings, starts, 8), model=model, seed=seed,
        measured=Measuring(starts, settings.trajectory, settings.strained, (fr.ENERGY, fr.FORCES), settings.strains,
                           settings.skip_ps, settings.rdf_max_A),
    )  # fmt: skip


def curves(done: Done) -> dict[str, Path]:
    return {name: getattr(done, name) for name in CURVES}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_strain_energies_are_those_by_hand(tmp_path, starts):
    done = measure(tmp_path, starts, EMT_ENTRY)
    first = fr.read_structures(starts)[0]

    def energy(by: float) -> float:
        atoms = first.copy()
        atoms.set_cell(atoms.cell.array * (1 + by), scale_atoms=True)
        atoms.calc = EMT(asap_cutoff=True)
        return atoms.get_potential_energy() / len(atoms) * 1000

    rows = {float(r["strain"]): float(r["energy_meV_per_atom"]) for r in table(done.strain) if r["start"] == "start0"}
    assert rows == {by: pytest.approx(energy(by) - energy(0), abs=1e-3) for by in (-0.02, 0.0, 0.02)}
    assert rows[0.02] != 0


def test_starts_of_one_name_have_curves_of_their_own(tmp_path):
    same = [cell(1, 0.01), cell(2, 0.3), cell(3, 0.01)]
    for atoms, name in zip(same, ("a", "a", "b"), strict=True):
        atoms.info["name"] = name
    found = _strain_curves(AsePotential(EMT(), "emt"), same, None, (-0.02, 0.0, 0.02))
    assert list(dict.fromkeys(row["start"] for row in found)) == ["a (0)", "a (1)", "b"]
    assert [float(row["energy_meV_per_atom"]) for row in found if row["strain"] == 0] == [0.0, 0.0, 0.0]


def test_a_coarser_step_conserves_energy_less(tmp_path, starts):
    fine = measure(tmp_path, starts, EMT_ENTRY, SHORT.model_copy(update={"timestep_fs": 1.0}), at="fine")
    coarse = measure(tmp_path, starts, EMT_ENTRY, SHORT.model_copy(update={"timestep_fs": 8.0}), at="coarse")
    key = "nve_fluctuation_meV_per_atom"
    assert coarse.measured[key] > 10 * fine.measured[key] > 0  # it goes with the square
    assert fine.measured["nve_sane_share"] == 1.0
    walks = table(fine.walks)
    drifts = [abs(float(row["drift_meV_per_atom_per_ns"])) for row in walks]
    assert fine.measured["nve_drift_meV_per_atom_per_ns"] == pytest.approx(np.mean(drifts), rel=1e-4)
    rows = [r for r in table(fine.energy) if r["walk"] == walks[0]["walk"]]
    assert np.ptp([float(r["energy_meV_per_atom"]) for r in rows]) < 1.0  # of some 80 meV of kinetic energy


def test_a_worse_model_is_farther_from_the_reference(tmp_path, starts):
    reference = curves(measure(tmp_path, starts, EMT_ENTRY, at="reference", seed=8))
    same = agreement(curves(measure(tmp_path, starts, EMT_ENTRY, at="good")), reference)
    worse = agreement(curves(measure(tmp_path, starts, STIFF, at="bad")), reference)
    assert same["strain_rmse_meV_per_atom"] == pytest.approx(0, abs=1e-6)
    for key in ("rdf_distance", "vdos_distance"):
        assert 0 < same[key] < worse[key] <= 1
    assert worse["strain_rmse_meV_per_atom"] > 1
    assert agreement(reference, reference) == dict.fromkeys(worse, 0.0)


def test_a_walk_that_breaks_counts_as_nothing_in_common(tmp_path, starts):
    reference = curves(measure(tmp_path, starts, EMT_ENTRY, at="reference"))
    fragile = SHORT.model_copy(update={"guard": Guard(max_force_eV_per_A=1e-3)})
    done = measure(tmp_path, starts, EMT_ENTRY, fragile, at="broken")
    assert done.measured == {"nve_sane_share": 0.0}
    assert {row["reason"] for row in table(done.walks)} == {"force"}
    found = agreement(curves(done), reference)
    assert found["rdf_distance"] == found["vdos_distance"] == 1.0
    assert found["strain_rmse_meV_per_atom"] == 0.0


def test_a_model_that_cannot_label_a_strained_cell_has_no_curve(tmp_path, starts):
    reference = curves(measure(tmp_path, starts, EMT_ENTRY, at="reference"))
    frames = fr.read_structures(starts)
    frames[0].symbols[0] = "Fe"  # EMT knows no iron
    fr.write_frames(starts, frames)
    done = measure(tmp_path, starts, EMT_ENTRY, at="iron")
    assert [r["energy_meV_per_atom"] for r in table(done.strain)][:3] == ["", "", ""]
    found = agreement(curves(done), reference)
    assert "strain_rmse_meV_per_atom" not in found
    assert 0 < done.measured["nve_sane_share"] < 1
    assert 0.5 <= found["rdf_distance"] < 1


def test_a_reference_trajectory_and_labelled_strain_take_the_teachers_place(tmp_path, starts):
    own = measure(tmp_path, starts, EMT_ENTRY, at="own")
    frames = [sf.strain(cell(1, 0.01), by) for by in (-0.03, 0.0, 0.03)]
    labelled = [label(atoms, start="x", strain=by) for atoms, by in zip(frames, (-0.03, 0.0, 0.03), strict=True)]
    fr.write_frames(tmp_path / "strained.extxyz", labelled)
    walk = as_nve(SHORT, starts, 8)
    work = Workspace(tmp_path, EventBus([]))
    replicas = md.plan_replicas(fr.read_structures(starts)[:1], walk, 8, "properties")
    path = tmp_path / "aimd.extxyz"
    walked = md.run(_potential(), replicas, walk, tmp_path / "md", lambda *_: None)
    fr.write_frames(path, list(walked))

    settings = SHORT.model_copy(update={"trajectory": path, "strained": tmp_path / "strained.extxyz"})
    done = measure(tmp_path, starts, EMT_ENTRY, settings, at="b")
    assert len(table(done.walks)) == 1
    told = work.at("reference").do(trajectory_properties, trajectory=path, step_fs=2.0, skip_ps=0.05, rdf_max_A=6.0)
    found = agreement(curves(done), {"rdf": told.rdf, "vdos": told.vdos})
    assert found["strain_rmse_meV_per_atom"] == pytest.approx(0, abs=1e-3)  # the labels are EMT's
    assert 0 < found["rdf_distance"] < 0.5
    assert 0 < found["vdos_distance"] < 0.9
    bare = work.at("c").do(trajectory_properties, trajectory=path, step_fs=None, skip_ps=0.0, rdf_max_A=6.0)
    assert "vdos_distance" not in agreement(curves(done), {"rdf": bare.rdf, "vdos": bare.vdos})
    assert own.folder != done.folder


def _potential():
    from ipip_ext.teachers import entries

    return entries.make(EMT_ENTRY.of.calculator, device="cpu")


def test_a_killed_measurement_goes_on_where_it_was(tmp_path, starts, monkeypatch):
    monkeypatch.setattr(engine, "COMMIT_EVERY_S", 0.0)
    whole = measure(tmp_path / "whole", starts, EMT_ENTRY)

    def kill(event: Event) -> None:
        if event.kind == "progress" and event.value > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "killed", starts, EMT_ENTRY, sinks=[kill])
    shares: list[float] = []
    sink = lambda event: shares.append(event.value) if event.kind == "progress" else None  # noqa: E731
    resumed = measure(tmp_path / "killed", starts, EMT_ENTRY, sinks=[sink])
    assert min(shares) > 0.3
    for name in ("strain", "walks", "energy", "rdf", "vdos"):
        assert getattr(resumed, name).read_bytes() == getattr(whole, name).read_bytes()


# ---------------------------------------------------------------- in a run

ASKED = {"time_ps": 0.1, "timestep_fs": 2.0, "skip_ps": 0.02, "strains": [-0.02, 0, 0.02]}


@pytest.mark.slow
def test_a_run_holds_every_model_against_the_teachers_second_walk(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(
        tmp_path, alloy_data, iterations=1, pretrain__epochs=1, finetune__epochs=1, evaluate__properties=ASKED,
        baselines=[{"kind": "teacher"}], tracking={"enabled": False},
    )  # fmt: skip
    done = CliRunner().invoke(main, ["run", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    run = Path("runs/tiny")
    rows = {row["model"]: row for row in table(run / "compare.csv") if row["split"] == "test"}
    teacher, ipip = rows["teacher (python:EMT)"], rows["ipip"]
    assert float(teacher["strain_rmse_meV_per_atom"]) == 0
    assert 0 < float(teacher["rdf_distance"]) < 1  # what chance gives
    said = {e.name: e.data["metrics"] for e in read_events(run / "events.jsonl") if e.kind == "row"}
    for key in ("rdf_distance", "vdos_distance", "strain_rmse_meV_per_atom", "nve_sane_share"):
        assert float(ipip[key]) == pytest.approx(said["ipip"][key])
    assert "the teacher's (python:EMT) walk with other velocities" in done.stdout
    finished = [e.stage for e in read_events(run / "events.jsonl") if (e.kind, e.name) == ("stage", "finished")]
    assert [stage for stage in finished if stage.endswith("properties")] == [
        "iter-00/properties", "baseline-teacher/properties", "reference/properties",
    ]  # fmt: skip
    walks = [json.loads((run / at / "properties/stage.json").read_text()) for at in ("reference", "baseline-teacher")]
    assert walks[0]["outputs"]["strain"] == walks[1]["outputs"]["strain"]
    assert walks[0]["outputs"]["rdf"]["sha256"] != walks[1]["outputs"]["rdf"]["sha256"]


def refused(*sets: str) -> str:
    done = CliRunner().invoke(main, ["check", "recipe.yaml", *(part for one in sets for part in ("--set", one))])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    return line


def test_what_cannot_be_compared_is_refused_and_the_cost_is_told(tmp_path, alloy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path, alloy_data, evaluate__properties=ASKED)
    done = CliRunner().invoke(main, ["check", "recipe.yaml"], catch_exceptions=False)
    assert "properties 2 NVE walks of 0.1 ps for each of 4 models" in done.stdout  # ipip, scratch, teacher, reference
    assert "properties x 4 (MD)" in done.stdout
    assert "hold 0" in refused("evaluate.properties.strains=[-0.02, 0.02]")
    assert "at least 20 steps" in refused("evaluate.properties.time_ps=0.05")
    assert "belongs to trajectory" in refused("evaluate.properties.trajectory_step_fs=1")
    fr.write_frames(tmp_path / "walk.extxyz", [cell(0), cell(1)])
    assert "frame 1 holds other atoms" in refused("evaluate.properties.trajectory=walk.extxyz")
    fr.write_frames(tmp_path / "strained.extxyz", [label(cell(0), start="a", strain=0.01)])
    assert "a has no frame at strain=0" in refused("evaluate.properties.strained=strained.extxyz")
    fr.write_frames(tmp_path / "strained.extxyz", [label(cell(0), strain=0.0)])
    assert "frame 0 lacks start=" in refused("evaluate.properties.strained=strained.extxyz")
