"""The final student as a model of MLflow's, registered once for each content and each code that loads it."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import ase.io

from ipip_ext import __version__
from ipip_ext.data import frames as fr
from ipip_ext.errors import WorkspaceError
from ipip_ext.run.disk import is_inside
from ipip_ext.run.layout import MODEL
from ipip_ext.run.provenance import sha256
from ipip_ext.run.record import read_record

log = logging.getLogger("ipip_ext")

CODE = Path(__file__).with_name("mlflow_model.py")
SHA256, CODE_SHA256 = "ipip.sha256", "ipip.code_sha256"
"""Tags of a version: hashes of the student's files and of the code that loads them."""
REQUIREMENTS = [f"ipip-mace=={__version__}"]
"""Said, because MLflow would else load the model in another process to see what it imports."""
_PICKLED = ".model"


def publish(client: Any, experiment: str, run_id: str, name: str, run_folder: Path) -> None:
    """Log the student in `run_folder` as a model of `run_id` and register it as the next version of `name`.

    Does nothing if there is none, or if a version of `name` holds the same student and today's code. A student whose
    versions have other code is registered anew, because that code may not run any more.
    Raises what MLflow and the disk raise.
    """
    with tempfile.TemporaryDirectory() as place:
        student = Path(place, "student")
        if not _copy(run_folder, student):
            return
        content = {SHA256: sha256(student), CODE_SHA256: sha256(CODE)}
        known = [version for version in _versions(client, name) if version.tags.get(SHA256) == content[SHA256]]
        if any(version.tags.get(CODE_SHA256) == content[CODE_SHA256] for version in known):
            return
        tags = content | {"ipip.run_folder": str(run_folder.absolute())}
        saved = Path(place, "model")
        _save(student, saved, run_id, _example(run_folder))
        logged = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=tags, model_type="pyfunc")
        client.log_model_artifacts(logged.model_id, str(saved))
        client.finalize_logged_model(logged.model_id, "READY")
    made = _register(client, logged, run_id, name, tags)
    if known:
        log.warning("models:/%s/%s is the student with today's code; older versions may not load any more", name, made)


def _copy(run_folder: Path, to: Path) -> bool:
    """Copy the student without what stands beside it: a pickle for MACE's tools, a committee, the stage's record.

    Links that lead out of the run folder are left. Return whether there was anything.
    """
    found = [path for path in (run_folder / MODEL).glob("student.*") if path.suffix != _PICKLED]
    inside = [path for path in found if is_inside(path, run_folder)]
    to.mkdir()
    for path in inside:
        shutil.copyfile(path, to / path.name)
    return bool(inside)


def _versions(client: Any, name: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{name}'"))


def _save(student: Path, to: Path, run_id: str, example: str | None) -> None:
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array

    # without a name, so that texts in a list, a column of texts and a column `path` all fit
    inputs = Schema([ColSpec("string")])
    outputs = Schema(
        [
            ColSpec("long", "input"),
            ColSpec("long", "n_atoms"),
            ColSpec("double", "energy_eV"),
            ColSpec(Array(Array("double")), "forces_eV_per_A"),
        ]
    )
    save_model(
        str(to),
        python_model=str(CODE),
        artifacts={path.name: str(path) for path in student.iterdir()},
        signature=ModelSignature(inputs, outputs),
        input_example=None if example is None else [example],
        pip_requirements=REQUIREMENTS,
        mlflow_model=Model(run_id=run_id),
    )


def _example(run_folder: Path) -> str | None:
    """Return a start of the run as extended XYZ; None where the run's data are not there any more."""
    try:
        prepared = read_record(run_folder / "prepare", "prepare")
        atoms = fr.read_structures(run_folder / "prepare" / prepared["outputs"]["starts"]["file"])[0]
    except (WorkspaceError, KeyError, OSError):
        return None
    atoms.calc, atoms.info = None, {}
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz", columns=["symbols", "positions"])
    return text.getvalue()


def _register(client: Any, logged: Any, run_id: str, name: str, tags: dict[str, str]) -> str:
    """Return the number of the version that is made."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    try:
        client.create_registered_model(name, description="Students of the ipip-mace recipe of this name.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name, logged.artifact_location, run_id=run_id, tags=tags, model_id=logged.model_id, await_creation_for=0
    )
    return str(made.version)
