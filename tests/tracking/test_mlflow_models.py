"""The student as a registered model, and the inputs of a real run."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import mlflow
import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from click.testing import CliRunner
from mlflow.exceptions import MlflowException
from tracked import all_runs, connect, emit, make_events

import ipip_ext
from ipip_ext.cli.main import main
from ipip_ext.data import frames as fr
from ipip_ext.errors import DataError
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.run.events import Event
from ipip_ext.run.provenance import sha256
from ipip_ext.teachers.load import load_potential
from ipip_ext.tracking.mirror import replay
from ipip_ext.tracking.models import CODE


def versions_of(tracking, name="tiny"):
    return connect(tracking).search_model_versions(f"name = '{name}'")


def test_the_student_is_registered_and_predicts_what_it_predicts(published, finished_run, tmp_path):
    """In a process of its own, because pyfunc finds the store by a global setting."""
    folder, tracking = published
    test = finished_run / "data/test.extxyz"
    code = (
        "import json, sys; from pathlib import Path; import ase.io, mlflow, pandas, torch\n"
        "uri, test, out = sys.argv[1:]\n"
        "mlflow.set_tracking_uri(uri)\n"
        "import ipip_ext.backends.mace.backend\n"  # e3nn loads constants of its own
        "torch.load = None\n"
        "model = mlflow.pyfunc.load_model('models:/tiny/1')\n"
        "text = Path(test).read_text()\n"
        "tables = [model.predict(pandas.DataFrame({'path': [test]})), model.predict([text, text]),\n"
        "          model.predict(pandas.DataFrame({'extxyz': [text]})),\n"
        "          model.unwrap_python_model().predict_structures(ase.io.read(test, ':')),\n"
        "          model.predict(model.input_example)]\n"
        "Path(out).write_text(json.dumps([table.to_dict('list') for table in tables]))\n"
        "assert [i.type.name for i in model.metadata.get_input_schema().inputs] == ['string']\n"
        "assert model.metadata.get_output_schema().input_names() == list(tables[0].columns)\n"
        "for wrong in ('nonsense', str(test)):\n"
        "    try: model.predict([wrong])\n"
        "    except Exception as error: assert 'no extended XYZ' in str(error), error\n"
        "    else: raise AssertionError(wrong)\n"
    )
    arguments = [sys.executable, "-c", code, tracking.uri, str(test), str(tmp_path / "out.json")]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    by_path, twice, by_text, by_atoms, example = json.loads((tmp_path / "out.json").read_text())
    frames = fr.read_structures(test)
    expected = load_potential(folder).compute(frames)
    assert by_path["n_atoms"] == [len(frame) for frame in frames]
    assert by_path["energy_eV"] == pytest.approx([p.energy_eV for p in expected], abs=1e-4)
    for forces, label in zip(by_path["forces_eV_per_A"], expected, strict=True):
        assert np.allclose(forces, label.forces_eV_per_A, atol=1e-4)
    assert by_text == by_path
    assert by_atoms == {**by_path, "input": list(range(len(frames)))}
    assert twice["input"] == [0] * len(frames) + [1] * len(frames)
    assert twice["energy_eV"] == pytest.approx(2 * by_path["energy_eV"], abs=1e-4)
    assert len(example["energy_eV"]) == 1


def test_what_is_registered_holds_no_pickle_and_names_what_it_needs(published):
    _, tracking = published
    (version,) = versions_of(tracking)
    place = Path(version.source.removeprefix("file://"))
    assert {path.name for path in (place / "artifacts").iterdir()} == {"student.json", "student.safetensors"}
    assert not [path for path in place.rglob("*") if path.suffix in {".pkl", ".model", ".pt"}]
    needed = (place / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in needed] == ["mlflow", "ipip-mace"]
    runs = all_runs(tracking)
    assert version.run_id == runs["tiny"].info.run_id
    (output,) = runs["tiny"].outputs.model_outputs
    logged = connect(tracking).get_logged_model(output.model_id)
    assert (logged.status, logged.artifact_location) == ("READY", version.source)


def test_a_student_makes_one_version_and_another_the_next(published, tmp_path):
    folder = shutil.copytree(published[0], tmp_path / "tiny")
    shutil.copy(published[0].parents[1] / "mlflow.db", tmp_path)
    tracking = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db")
    (folder / "tracking.json").unlink(missing_ok=True)
    assert replay(folder, tracking) > 0
    assert len(versions_of(tracking)) == 1
    with (folder / "model/student.json").open("a") as file:
        file.write("\n")
    (folder / "tracking.json").unlink()
    replay(folder, tracking.model_copy(update={"register_model": False}))
    assert len(versions_of(tracking)) == 1
    (folder / "tracking.json").unlink()
    replay(folder, tracking)
    assert {int(version.version) for version in versions_of(tracking)} == {1, 2}


def stored(version):
    """Return the folder of a version, of a store on this disk."""
    return Path(version.source.removeprefix("file://"))


def make_old(tracking, version):
    """Turn a version into one of earlier days: its code imports modules that have moved since, and has no hash."""
    (file,) = stored(version).rglob("mlflow_model.py")
    door = "from ipip_ext import load_potential, load_structures\n"
    assert door in file.read_text()
    inner = "from ipip_ext.frames import read_structures as load_structures\nfrom ipip_ext.load import load_potential\n"
    file.write_text(file.read_text().replace(door, inner))
    connect(tracking).delete_model_version_tag("tiny", version.version, "ipip.code_sha256")


def test_track_renews_a_model_whose_code_is_no_longer_todays(
    published, finished_run, empty_store, tmp_path, monkeypatch, caplog
):
    shutil.copytree(published[0], tmp_path / "runs/tiny", ignore=shutil.ignore_patterns("tracking.json"))
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    tracking = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db")

    def track():
        done = CliRunner().invoke(main, ["track", "runs/tiny"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    track()
    (first,) = versions_of(tracking)
    make_old(tracking, first)
    with pytest.raises(MlflowException, match=r"No module named 'ipip_ext\.frames'"):
        mlflow.pyfunc.load_model(str(stored(first)))
    caplog.clear()
    assert track() == "0 events mirrored to sqlite:///mlflow.db\n"
    assert "models:/tiny/2 is the student with today's code" in caplog.text
    newest, _ = sorted(versions_of(tracking), key=lambda version: -int(version.version))
    assert newest.run_id == first.run_id
    assert newest.tags["ipip.sha256"] == first.tags["ipip.sha256"]
    test = finished_run / "data/test.extxyz"
    found = mlflow.pyfunc.load_model(str(stored(newest))).predict(pd.DataFrame({"path": [str(test)]}))
    expected = load_potential(Path("runs/tiny")).compute(fr.read_structures(test))
    assert list(found["energy_eV"]) == pytest.approx([p.energy_eV for p in expected], abs=1e-4)
    track()
    assert len(versions_of(tracking)) == 2


def test_the_stored_code_knows_the_public_door_alone():
    """It is run by versions of the package that have moved everything else."""
    lines = [node for node in ast.walk(ast.parse(CODE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = {(n.module, a.name) for n in lines if isinstance(n, ast.ImportFrom) for a in n.names if "ipip" in n.module}
    assert ours == {
        ("ipip_ext", "load_potential"), ("ipip_ext", "load_structures"), ("ipip_ext.errors", "DataError"),
    }  # fmt: skip
    assert {name for module, name in ours if module == "ipip_ext"} <= set(ipip_ext.__all__)
    assert not [a.name for n in lines if isinstance(n, ast.Import) for a in n.names if "ipip" in a.name]


def test_structures_are_read_by_the_door(tmp_path):
    ase.io.write(tmp_path / "two.cif", [bulk("Cu"), bulk("Al")])
    assert [str(one.symbols) for one in ipip_ext.load_structures(str(tmp_path / "two.cif"))] == ["Cu", "Al"]
    with pytest.raises(DataError, match="no such file"):
        ipip_ext.load_structures(tmp_path / "none.cif")


def test_a_folder_without_a_student_registers_nothing(folder, tracking):
    emit(folder, [*make_events(folder), Event("artifact", "model", "model")])
    (folder / "model").mkdir()
    (folder.parent / "student.json").write_text("secret")
    (folder / "model/student.json").symlink_to(folder.parent / "student.json")
    replay(folder, tracking)
    assert not versions_of(tracking, "mos2")


def test_inputs_are_datasets_with_our_hashes(published, finished_run):
    _, tracking = published
    test = finished_run / "data/test.extxyz"
    for run in all_runs(tracking).values():
        inputs = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
        assert set(inputs) == {"train", "test", "starts"}
        assert inputs["test"].name == "test.extxyz"
        assert json.loads(inputs["test"].profile) == {"sha256": sha256(test)}
        assert sha256(test).startswith(inputs["test"].digest)
        assert json.loads(inputs["test"].source)["uri"].endswith("data/test.extxyz")
