"""The MACE backend passes the conformance suite, and is an ordinary MACE to everyone else."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_mace import TINY

from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.testing import BackendConformance
from ipip_ext.errors import DataError, RecipeError
from ipip_ext.recipe.students import MaceConfig
from ipip_ext.recipe.training import Fit


class TestMaceBackend(BackendConformance):
    backend = MaceBackend()
    config = TINY


def test_the_last_interaction_is_more_specific_than_all_interactions():
    backend = MaceBackend()
    model = backend.build(TINY, E0S_EV, [alloy(0)], seed=1)
    groups = backend.groups(model)
    factors = backend.lr_factors(model, Fit(freeze=("interactions",), lr_factors={"interactions.last": 0.5}))
    last, all_layers = set(groups["interactions.last"]), set(groups["interactions"])
    assert {name for name, factor in factors.items() if factor == 0.5} == last
    assert {name for name, factor in factors.items() if factor == 0} == all_layers - last != set()


def test_of_one_layer_the_last_is_the_more_specific_too():
    backend = MaceBackend()
    config = TINY.model_copy(update={"num_interactions": 1})
    model = backend.build(config, E0S_EV, [alloy(0)], seed=1)
    settings = Fit(freeze=("interactions.last",), lr_factors={"interactions": 0.5})
    factors = backend.lr_factors(model, settings)
    assert {name for name, factor in factors.items() if factor == 0} == set(backend.groups(model)["interactions"])
    with pytest.raises(RecipeError, match="nothing is left to train"):
        backend.lr_factors(model, Fit(freeze=("embedding", "interactions", "products", "readouts")))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    backend, folder = MaceBackend(), tmp_path_factory.mktemp("model")
    model = backend.build(TINY, E0S_EV, [alloy(0)], seed=1)
    backend.export(model, folder)
    return model, folder


def test_importing_us_leaves_torch_loading_safely():
    code = (
        "import os, torch, ipip_ext; from ipip_ext.backends import registry; registry.backend('mace');"
        "assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TORCH_FORCE")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_exported_model_is_an_ordinary_mace(exported):
    """MACE's own calculator, in a process that knows nothing of us, gives the same numbers."""
    model, folder = exported
    atoms = alloy(2)
    expected = MaceBackend().potential(model, "cpu").compute([atoms])[0]
    atoms.write(folder / "in.extxyz")
    code = (
        "import sys, numpy as np, ase.io; from mace.calculators import MACECalculator;"
        "atoms = ase.io.read(sys.argv[2]); atoms.calc = MACECalculator(model_paths=sys.argv[1], device='cpu');"
        "np.savez(sys.argv[3], energy=atoms.get_potential_energy(), forces=atoms.get_forces())"
    )
    files = [str(folder / name) for name in ("student.model", "in.extxyz", "out.npz")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, capture_output=True)
    found = np.load(files[2])
    assert found["energy"] == pytest.approx(expected.energy_eV, abs=1e-6)  # positions are written to 1e-8 A
    assert np.allclose(found["forces"], expected.forces_eV_per_A, atol=1e-6)


def test_loading_never_unpickles(exported, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", refuse)
    MaceBackend().load(exported[1])


def test_students_of_one_size_are_loaded_as_they_are(tmp_path):
    """They are copies of one empty network, and share nothing that is their own."""
    backend = MaceBackend()
    first = backend.build(TINY, E0S_EV, [alloy(0)], seed=1)
    second = backend.build(TINY, {key: e0 - 2.0 for key, e0 in E0S_EV.items()}, [alloy(0).repeat(2)[:9]], seed=2)
    assert first.spec.avg_num_neighbors != second.spec.avg_num_neighbors
    frames, models = [alloy(5), alloy(6)], {"first": first, "second": second}
    for name, model in models.items():
        backend.save(model, tmp_path / name)
    for name in ("first", "second", "first"):
        loaded = backend.load(tmp_path / name)
        assert loaded.spec == models[name].spec
        pairs = zip(*(backend.potential(one, "cpu").compute(frames) for one in (loaded, models[name])), strict=True)
        for found, expected in pairs:
            assert found.energy_eV == expected.energy_eV
            assert np.array_equal(found.forces_eV_per_A, expected.forces_eV_per_A)
        for parameter in loaded.module.parameters():
            parameter.data.zero_()


def test_unknown_element_is_named(exported):
    atoms = alloy(1)
    atoms.symbols[0] = "Ni"
    with pytest.raises(DataError, match="Ni"):
        MaceBackend().potential(exported[0], "cpu").compute([atoms])


@pytest.mark.parametrize("irreps", ["64x0e+32x1o", "32x1o", "thirty-two", "0x0e"])
def test_impossible_irreps_are_refused(irreps):
    with pytest.raises(ValueError, match=r"MACE|must read"):
        MaceConfig(hidden_irreps=irreps)
