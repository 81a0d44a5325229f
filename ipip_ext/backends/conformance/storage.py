"""Model files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipip_ext.backends.base import Model
from ipip_ext.backends.conformance.task import Task, alloy, equal
from ipip_ext.errors import ModelFileError


class Storage(Task):
    """What is saved is what is loaded."""

    def test_saved_is_loaded_bitwise(self, model: Model, tmp_path: Path) -> None:
        self.backend.save(model, tmp_path)
        loaded = self.backend.load(tmp_path)
        assert equal(self.backend.parameters(model), self.backend.parameters(loaded))
        before, after = self.one(model, alloy(7)), self.one(loaded, alloy(7))
        assert before.energy_eV == after.energy_eV
        assert np.array_equal(before.forces_eV_per_A, after.forces_eV_per_A)

    def test_broken_files_are_refused(self, model: Model, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="no such file"):
            self.backend.load(tmp_path / "nowhere")
        self.backend.save(model, tmp_path)
        for path in sorted(tmp_path.iterdir()):
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(ModelFileError, match=path.name):
                self.backend.load(tmp_path)
            path.write_bytes(whole)
