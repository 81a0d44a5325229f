"""Baselines: each says the same metrics of a model of its own, and none costs a finished run anything."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloy import cell, label, write_recipe
from ase import Atoms
from ase.calculators.lj import LennardJones
from click.testing import CliRunner

from ipip_ext import admission
from ipip_ext.check import preflight
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.data import metrics
from ipip_ext.errors import CalculatorError, UserError
from ipip_ext.potentials.base import FrameFailed, Prediction
from ipip_ext.recipe.data import Ood
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run.events import Event, EventBus, read_events
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.evaluate import evaluate, split_for
from ipip_ext.stages.inputs import Calculator, Exam, Model
from ipip_ext.stages.report_tables import COSTS
from ipip_ext.teachers import entries
from ipip_ext.teachers.lammps.potential import with_files
from ipip_ext.tracking.entries import translate

MO_S_O = Path(__file__).parents[1] / "recipes/data/mo_s_o"
EMT_ENTRY = {"python": "ase.calculators.emt:EMT", "kwargs": {"asap_cutoff": True}}
COPPER = {
    "kind": "conventional", "name": "eam", "pair_style": "eam", "pair_coeff": ["1 1 mine.eam"], "elements": ["Cu"],
}  # fmt: skip
ALL = [
    {"kind": "teacher"},
    {"kind": "calculator", "name": "the-reference", "calculator": EMT_ENTRY | {"interpreter": sys.executable}},
    {"kind": "calculator", "name": "lj", "calculator": {
        "python": "ase.calculators.lj:LennardJones", "kwargs": {"sigma": 2.2, "epsilon": 0.1, "rc": 5.0}}},
    {"kind": "distilled"},
    {"kind": "no_forget"},
]  # fmt: skip
REST = {"evaluate__stability": {"temperatures_K": [100], "time_ps": 0.005}, "tracking": {"enabled": False}}
SPLITS = {"test": 8, "test_id": 6, "test_ood": 2}


def copper(seed: int, amplitude_A: float) -> Atoms:
    atoms = cell(seed, amplitude_A)
    atoms.symbols = "Cu4"
    return atoms


def write_data(folder: Path) -> None:
    """Write train and test of which some frames hold copper alone, starts, and a user's own potential."""
    train = [label(cell(i), start="s0") for i in range(14)] + [label(copper(i, 0.1), start="s1") for i in range(6)]
    test = [label(cell(100 + i, 0.2), start=f"s{i % 3}") for i in range(6)]
    test[2:2] = [label(copper(200 + i, 0.2), start="s0") for i in range(2)]
    fr.write_frames(folder / "train.extxyz", train)
    fr.write_frames(folder / "test.extxyz", test)
    fr.write_frames(folder / "starts.extxyz", [cell(i, 0.01) for i in range(2)])


def run(folder: Path) -> None:
    done = CliRunner().invoke(
        main, ["run", str(folder / "recipe.yaml"), "--workdir", str(folder / "run")], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output


def started(folder: Path) -> list[str]:
    return [e.stage for e in read_events(folder / "run/events.jsonl") if (e.kind, e.name) == ("stage", "started")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run with every baseline but the conventional one."""
    folder = tmp_path_factory.mktemp("baselines")
    write_data(folder)
    write_recipe(folder, folder, baselines=ALL, **REST)
    run(folder)
    return folder


@pytest.fixture(scope="module")
def grown(folder) -> tuple[Path, list[str]]:
    """That run once a conventional baseline was added, and the stages that this cost."""
    before = len(started(folder))
    source = with_files("Cu_u3.eam")[0]
    (folder / "mine.eam").write_bytes(Path(source).read_bytes())
    write_recipe(folder, folder, baselines=[*ALL, COPPER], **REST)
    run(folder)
    return folder, started(folder)[before:]


def rows_of(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (folder / "run/compare.csv").open() as file:
        return {(row["model"], row["split"]): row for row in csv.DictReader(file)}


def record(folder: Path, stage: str) -> dict:
    return json.loads((folder / "run" / stage / "stage.json").read_text())


def test_every_baseline_has_every_split_and_says_so_as_a_baseline(folder):
    rows = rows_of(folder)
    names = ["teacher (python:EMT)", "the-reference", "lj", "distilled", "no_forget"]
    for name in names:
        assert {s: int(row["n_frames"]) for (model, s), row in rows.items() if model == name} == SPLITS
        assert rows[name, "test"]["role"] == "baseline"
        assert float(rows[name, "test"]["md_step_ms"]) > 0
        assert rows[name, "test"]["md_sane_share"] != ""
    said = [e for e in read_events(folder / "run/events.jsonl") if e.kind == "row" and e.name in names]
    assert {e.name: e.data["stage"] for e in said} == {
        name: f"baseline-{name.split(' ')[0]}" for name in names
    }  # fmt: skip
    keys = {tuple(sorted(e.data["metrics"].keys() - {"n_parameters", *COSTS})) for e in said}
    assert len(keys) == 1  # the same names for all


def test_a_calculator_is_measured_as_it_comes(folder):
    rows = rows_of(folder)
    assert float(rows["the-reference", "test"]["force_mae_meV_per_A"]) < 1e-3  # it made the labels
    assert float(rows["the-reference", "test"]["energy_mae_meV_per_atom"]) < 1e-2
    test = fr.read_frames(folder / "test.extxyz")
    wrong = np.concatenate(
        [forces(LennardJones(sigma=2.2, epsilon=0.1, rc=5.0), f) - f.arrays[fr.FORCES] for f in test]
    )
    mae = float(np.abs(wrong).mean() * 1e3)
    assert float(rows["lj", "test"]["force_mae_meV_per_A"]) == pytest.approx(mae, rel=1e-4)


def test_distilled_is_the_first_student_before_it_met_a_label(folder):
    pretrained = record(folder, "iter-00/pretrain")["outputs"]["model"]["sha256"]
    given = record(folder, "baseline-distilled/evaluate")["fingerprint"]["inputs"]
    assert given["model"]["model"] == f"sha256:{pretrained}"
    assert given["align"] is not None
    # unaligned, zeros alone would be eV off
    assert float(rows_of(folder)["distilled", "test"]["energy_mae_meV_per_atom"]) < 500


def test_no_forget_goes_on_from_the_same_student_and_data(folder):
    first = record(folder, "iter-00/finetune")["outputs"]["model"]["sha256"]
    forgot = record(folder, "iter-00/forget")["outputs"]["model"]["sha256"]
    ours, theirs = (
        record(folder, f"{at}iter-01/pretrain")["fingerprint"]["inputs"] for at in ("baseline-no_forget/", "")
    )
    assert (ours.pop("model"), theirs.pop("model")) == (f"sha256:{first}", f"sha256:{forgot}")
    assert ours == theirs
    assert not list((folder / "run/baseline-no_forget").rglob("forget"))
    valid = [
        record(folder, stage)["values"]["valid"]["force_mae_meV_per_A"]
        for stage in ("iter-00/finetune", "baseline-no_forget/iter-01/finetune")
    ]
    best = ("iter-00", "baseline-no_forget/iter-01")[int(np.argmin(valid))]
    kept = record(folder, f"{best}/finetune")["outputs"]["model"]["sha256"]
    used = record(folder, "baseline-no_forget/evaluate")["fingerprint"]["inputs"]["model"]["model"]
    assert used == f"sha256:{kept}"


def test_curves_of_a_baselines_iterations_stay_apart():
    keys = {
        key
        for i in (1, 2)
        for entry in translate(Event("metric", "loss", 1.0, f"baseline-no_forget/iter-0{i}/pretrain", 0))
        for key in entry.metrics
    }
    assert keys == {"work.iter-01.pretrain.loss", "work.iter-02.pretrain.loss"}


def test_a_conventional_baseline_costs_a_finished_run_its_own_stages_only(grown):
    _, stages = grown
    assert stages == ["baseline-eam/evaluate", "report"]


def test_a_conventional_baseline_has_a_split_on_which_all_have_numbers(grown):
    folder, _ = grown
    rows = rows_of(folder)
    assert [split for model, split in rows if model == "eam"] == ["test_Cu"]
    models = {model for model, _ in rows}
    assert {model for model, split in rows if split == "test_Cu"} == models
    assert {rows[model, "test_Cu"]["n_frames"] for model in models} == {"2"}
    assert {split for model, split in rows if model == "ipip"} == {*SPLITS, "test_Cu"}
    assert rows["eam", "test_Cu"]["md_step_ms"] == rows["eam", "test_Cu"]["md_sane_share"] == ""  # starts hold Al
    told = (folder / "run/compare.txt").read_text()
    assert "eam: knows Cu alone, so only test_Cu, 2 of 8 frames" in told
    notes = [e.name for e in read_events(folder / "run/events.jsonl") if e.kind == "note"]
    assert "knows Cu alone: 2 of 8 test frames" in notes


def test_numbers_on_that_split_are_those_of_its_frames(grown):
    folder, _ = grown
    pure = [f for f in fr.read_frames(folder / "test.extxyz") if fr.elements([f]) == {"Cu"}]
    rows = rows_of(folder)
    said = [Prediction(0.0, forces(LennardJones(sigma=2.2, epsilon=0.1, rc=5.0), f)) for f in pure]
    found = metrics.errors(pure, said)
    for key in ("force_mae_meV_per_A", "force_rmse_meV_per_A"):
        assert float(rows["lj", "test_Cu"][key]) == pytest.approx(found[key], rel=1e-4)
    eam = entries.make(load_recipe(folder / "recipe.yaml").baselines[-1].calculator, device="cpu", root=folder)
    found = metrics.errors(pure, eam.compute(pure))
    assert float(rows["eam", "test_Cu"]["force_mae_meV_per_A"]) == pytest.approx(found["force_mae_meV_per_A"], rel=1e-4)
    assert found["energy_mae_meV_per_atom"] > 100  # EAM counts from free atoms, EMT from the bulk
    assert float(rows["eam", "test_Cu"]["energy_mae_meV_per_atom"]) < 100  # aligned


def test_a_force_field_that_knows_all_elements_has_the_usual_splits(folder, tmp_path):
    exam = Exam(folder / "run/prepare/test.extxyz", Ood(key="start", values=("s2",)), batch_size=4)
    work = Workspace(tmp_path, EventBus([]))
    model = Model(Calculator(EMT_ENTRY))
    done = work.do(
        evaluate, model=model, exam=exam, align=folder / "run/prepare/train.extxyz", elements=["Cu", "Al", "Ag"]
    )
    assert done.n_frames == SPLITS


def test_an_edited_potential_is_another_baseline(grown):
    folder, _ = grown
    text = (folder / "mine.eam").read_text()
    (folder / "mine.eam").write_text(text + "\n")
    try:
        with pytest.raises(UserError, match=r"baseline-eam.*start over with --redo baseline-eam/evaluate"):
            admission.admit(load_recipe(folder / "recipe.yaml"), folder / "run")
    finally:
        (folder / "mine.eam").write_text(text)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baselines": [ALL[2], ALL[2]]}, ("lj stands more than once", "each name may stand once")),
        ({"baselines": [{"kind": "teacher"}, {**ALL[2], "name": "teacher"}]}, ("teacher stands more than once",)),
        ({"baselines": [{**ALL[2], "name": "ipip"}]}, ("baselines.0.name", "name of a student")),
        ({"baselines": [{**ALL[2], "calculator": "chgnett"}]}, ("baselines.0: ", "Did you mean chgnet")),
        ({"baselines": [{**ALL[2], "calculator": {"python": "ase.calculators.emt:EMTT"}}]}, ("baselines.0: ", "EMTT")),
        ({"baselines": [{"kind": "no_forget"}], "iterations": 1}, ("baselines.0", "iterations: 2 or more")),
        (
            {
                "baselines": [{"kind": "no_forget"}],
                "label": {"reference": {"calculator": "chgnet", "budget": 2}},
            },
            ("baselines.0", "label.reference", "ablate --vary forget.groups"),
        ),
    ],
)  # fmt: skip
def test_names_and_needs_are_checked_before_anything_runs(tmp_path, alloy_data, changes, words):
    recipe = load_recipe(write_recipe(tmp_path, alloy_data, **changes))
    with pytest.raises(UserError) as raised:
        preflight.check_names(recipe)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pair_style": "eamm"}, ("baselines.0", "eamm")),
        ({"pair_coeff": ["1 1 nowhere.eam"]}, ("baselines.0", "nowhere.eam", "Files are looked for in")),
        ({"pair_coeff": ["1 1 recipe.yaml"]}, ("baselines.0", "ERROR", "recipe.yaml); mend")),
        ({"elements": ["Cu", "Alu"]}, ("baselines.0", "Alu is no element")),
        ({"elements": ["Cu", "Cu"]}, ("baselines.0", "each may stand once")),
        ({"pair_coeff": ["1 1 Cu_u3.eam"], "elements": ["Cu"]}, ("baselines.0", "none of the test frames holds Cu")),
    ],
)
def test_a_wrong_force_field_is_told_of_before_anything_runs(tmp_path, alloy_data, changes, words):
    recipe = load_recipe(write_recipe(tmp_path, alloy_data, baselines=[COPPER | changes]))
    with pytest.raises(UserError) as raised:
        preflight.check(recipe)
    for word in words:
        assert word in str(raised.value)


def test_a_calculator_that_cannot_label_is_told_of_before_anything_runs(tmp_path, alloy_data):
    (tmp_path / "picky_q3.py").write_text(
        "from ase.calculators.calculator import Calculator\n"
        "class Picky(Calculator):\n    implemented_properties = ['energy', 'forces']\n"
        "    def calculate(self, *args):\n        raise ValueError('no such element')\n"
    )
    entry = {"kind": "calculator", "name": "picky", "calculator": {"python": "picky_q3:Picky"}}
    recipe = load_recipe(write_recipe(tmp_path, alloy_data, baselines=[entry]))
    with pytest.raises(CalculatorError, match=r"baselines\.0: can't label test frame .*no such element"):
        preflight.check(recipe)


# ---------------------------------------------------------------- LAMMPS itself


def forces(calculator, atoms: Atoms) -> np.ndarray:
    copy = atoms.copy()
    copy.calc = calculator
    return copy.get_forces()


def lammps(pair_style: str, pair_coeff: str, elements: list[str]):
    entry = {"lammps": pair_style, "pair_coeff": [pair_coeff], "elements": elements}
    return entries.make(entry, device="cpu")


def test_lammps_is_what_ase_computes_for_the_same_force_field():
    potential = lammps("lj/cut 6.0", "* * 0.4 2.3", ["Cu", "Al"])
    assert (potential.name, potential.batched) == ("lammps:lj/cut", False)
    slanted = cell(3, 0.2)
    slanted.set_cell(slanted.cell.array @ np.array([[1, 0.2, 0], [0, 1, 0.1], [0.3, 0, 1]]), scale_atoms=True)
    slanted.rotate(40, (1, 2, 3), rotate_cell=True)
    slab = cell(4, 0.2) * (2, 2, 1)
    slab.pbc = (True, True, False)
    slab.positions[0, 2] -= 2.0  # outside of its cell
    cluster = Atoms("Cu2Al", [[0, 0, 0], [0, 0, 2.4], [0, 2.5, 0.3]])
    frames = [slanted, slab, cluster, cell(5, 0.2)]
    for frame, said in zip(frames, potential.compute(frames), strict=True):
        assert np.allclose(said.forces_eV_per_A, forces(LennardJones(epsilon=0.4, sigma=2.3, rc=6.0), frame), atol=1e-6)
    stress = potential.compute([slanted], stress=True)[0].stress_eV_per_A3
    slanted.calc = LennardJones(epsilon=0.4, sigma=2.3, rc=6.0)
    assert np.allclose(stress, slanted.get_stress(voigt=False), atol=1e-7)


def test_the_calculator_for_md_keeps_its_lammps_and_gives_the_same():
    potential = lammps("eam/alloy", "* * AlCu.eam.alloy Al Cu", ["Al", "Cu"])
    atoms = cell(1, 0.05) * (2, 1, 1)
    atoms.calc = potential.calculator()
    for step in range(3):
        atoms.rattle(0.05, seed=step)
        said = potential.compute([atoms])[0]
        assert atoms.get_potential_energy() == pytest.approx(said.energy_eV, abs=1e-9)
        assert np.allclose(atoms.get_forces(), said.forces_eV_per_A, atol=1e-9)


def test_lammps_remembers_nothing():
    potential = lammps("sw/mod", "* * tmd.sw.mod Mo S", ["Mo", "S"])
    frames = [f for f in ase.io.read(MO_S_O / "test.extxyz", ":") if "O" not in f.symbols][::6]
    there, back = potential.compute(frames), potential.compute(frames[::-1])[::-1]
    for one, other in zip(there, back, strict=True):
        assert one.energy_eV == other.energy_eV
        assert np.array_equal(one.forces_eV_per_A, other.forces_eV_per_A)
    with pytest.raises(FrameFailed, match="knows Mo, S, not O"):
        potential.compute([*frames, Atoms("MoO", cell=[5, 5, 5], positions=[[0, 0, 0], [0, 0, 2]], pbc=True)])


@pytest.mark.parametrize(
    ("pair_style", "file", "mae_meV_per_A"), [("sw/mod", "tmd.sw.mod", 378.2), ("rebomos", "MoS.rebomos", 1266.5)]
)
def test_published_potentials_of_mos2_on_the_task(pair_style, file, mae_meV_per_A):
    """Both were measured with ASE's LAMMPSlib alone, outside of this package."""
    potential = lammps(pair_style, f"* * {file} Mo S", ["Mo", "S"])
    frames = [f for f in fr.read_frames(MO_S_O / "test.extxyz") if "O" not in f.symbols]
    assert len(frames) == 18
    found = metrics.errors(frames, potential.compute(frames))
    assert found["force_mae_meV_per_A"] == pytest.approx(mae_meV_per_A, abs=0.1)
    assert split_for(["S", "Mo"]) == "test_Mo_S"
