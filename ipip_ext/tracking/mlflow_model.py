"""A student as MLflow's pyfunc. MLflow copies this file beside the student and runs the copy when it loads the model.

    model = mlflow.pyfunc.load_model("models:/<name of the recipe>/1")
    model.predict([text_of_an_extxyz_file])
    model.predict(pandas.DataFrame({"path": ["frames.extxyz"]}))

What it needs is this package's public door alone; the student itself is read without pickle.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import pandas as pd  # type: ignore[import-untyped]
from ase import Atoms
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

# a registered copy of this file outlives the version that made it, and the package's inner modules may move by then
from ipip_ext import load_potential, load_structures
from ipip_ext.errors import DataError

SPEC = "student.json"
"""The artifact beside which the weights are."""


class StudentModel(PythonModel):  # type: ignore[misc]
    """Energies and forces of structures."""

    def load_context(self, context: Any) -> None:
        """Load the student from the model's artifacts."""
        self.potential = load_potential(Path(context.artifacts[SPEC]).parent)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Return a row for each structure: `input`, `n_atoms`, `energy_eV` and `forces_eV_per_A`, n_atoms lists of 3.

        model_input: a column of extended XYZ texts, or, if it is called `path`, of files that ASE reads. Each may
        hold several structures; `input` counts its row from 0. Raises DataError for what can't be read or has an
        element that the student doesn't know.
        """
        table = pd.DataFrame(model_input)
        read = _of_file if table.columns[0] == "path" else _of_text
        inputs = [(i, atoms) for i, value in enumerate(table.iloc[:, 0]) for atoms in read(i, value)]
        return self.predict_structures([atoms for _, atoms in inputs]).assign(input=[i for i, _ in inputs])

    def predict_structures(self, structures: Sequence[Atoms]) -> pd.DataFrame:
        """Return the same for ASE structures, for which MLflow has no type; see `unwrap_python_model`."""
        found = self.potential.compute(structures)
        return pd.DataFrame(
            {
                "input": range(len(found)),
                "n_atoms": [len(atoms) for atoms in structures],
                "energy_eV": [p.energy_eV for p in found],
                "forces_eV_per_A": [p.forces_eV_per_A.tolist() for p in found],
            }
        )


def _of_file(_row: int, value: str) -> list[Atoms]:
    return load_structures(value)


def _of_text(row: int, value: str) -> list[Atoms]:
    try:
        frames = ase.io.read(io.StringIO(value), index=":", format="extxyz")
    except Exception as error:
        raise DataError(
            f"input {row}: is no extended XYZ ({type(error).__name__}); files go in a column `path`."
        ) from error
    return list(frames)


set_model(StudentModel())
