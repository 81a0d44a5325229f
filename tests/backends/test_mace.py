"""The MACE backend passes the conformance suite, and is an ordinary MACE to everyone else."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from ipip_ext.backends import known_models
from ipip_ext.backends.base import FitData, FitHooks, FitJob
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.backends.mace.network import MaceNetwork
from ipip_ext.backends.testing import E0S_EV, BackendConformance, alloy
from ipip_ext.backends.training import Trainer
from ipip_ext.data import frames as fr
from ipip_ext.errors import CalculatorError, DataError, Diverged, ModelFileError, RecipeError, StageFailed
from ipip_ext.recipe.students import MaceConfig
from ipip_ext.recipe.training import Fit

TINY = MaceConfig(
    hidden_irreps="4x0e+4x1o", max_ell=1, correlation=2, r_max_A=4.0, radial_MLP=(8,), MLP_irreps="4x0e",
    num_bessel=4, dtype="float64",
)  # fmt: skip


class TestMaceBackend(BackendConformance):
    backend = MaceBackend()
    config = TINY


class TestMaceBackendScalar(BackendConformance):
    backend = MaceBackend()
    config = MaceConfig(
        hidden_irreps="4x0e", max_ell=2, correlation=3, r_max_A=4.0, radial_MLP=(8,), MLP_irreps="4x0e",
        num_bessel=4, dtype="float64",
    )  # fmt: skip


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


@pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau"])
def test_frozen_parameters_are_in_nothing_that_trains(tmp_path, schedule):
    """Neither gradient nor optimizer nor EMA knows them, after validations too; the student is all trainable again."""
    backend, frames = MaceBackend(), [alloy(seed) for seed in range(4)]
    model = backend.build(TINY, E0S_EV, frames, seed=1)
    settings = Fit(
        epochs=3, batch_size=2, warmup_steps=3, schedule=schedule, freeze=("interactions.last", "embedding"),
        lr_factors={"readouts": 0.5, "interactions": 0.1},
    )  # fmt: skip
    factors, lrs = backend.lr_factors(model, settings), []
    trainer = Trainer(
        MaceNetwork(model, "cpu"), FitData(frames[:3], frames[3:]), settings,
        FitJob(1, tmp_path, "cpu", FitHooks(lambda name, value, _step: lrs.append(value) if name == "lr" else None)),
        lr_factors=factors,
    )  # fmt: skip
    result = trainer.run()
    named = dict(trainer.module.named_parameters())
    trained = {name for name, factor in factors.items() if factor > 0}
    assert len(trainer.ema.shadow_params) == len(trained) < len(named)
    assert {name for name, p in named.items() if p.grad is not None} == trained
    found = {id(p): group["lr"] / lrs[-1] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert set(found) == {id(named[name]) for name in trained}
    assert [found[id(named[name])] for name in sorted(trained)] == pytest.approx([factors[n] for n in sorted(trained)])
    assert all(p.requires_grad for p in result.model.module.parameters())


def trainer_of(folder, notes=(), **changes):
    """Return a training on six frames, of which each batch has some, with replay; one lacks a stress."""
    backend, frames = MaceBackend(), [alloy(seed, 1 + (seed == 3)) for seed in range(8)]
    del frames[1].info[fr.STRESS]
    settings = Fit(epochs=3, batch_size=6, lr=0.01, stress_weight=0.1, **changes)
    data = FitData(frames[:6], frames[6:], replay=frames[:3], replay_fraction=0.3, replay_weight=0.5)
    model = backend.build(TINY, E0S_EV, frames, seed=1)
    job = FitJob(1, folder, "cpu", FitHooks(note=getattr(notes, "append", lambda _: None)))
    return Trainer(MaceNetwork(model, "cpu"), data, settings, job, lr_factors=backend.lr_factors(model, settings))


def test_a_gradient_that_is_not_finite_stops_training_and_the_checkpoint_is_kept(tmp_path):
    straight = trainer_of(tmp_path / "straight").run()
    trainer = trainer_of(tmp_path / "cut")
    trainer.parameters[0].register_hook(lambda g: g * float("inf") if trainer.state.epoch == 2 else g)
    with pytest.raises(Diverged, match=r"the gradient is not finite in epoch 2, step 4 \(frames in the batch: alloy-"):
        trainer.run()
    resumed = trainer_of(tmp_path / "cut").run()
    assert resumed.valid == straight.valid
    for name, value in straight.model.module.state_dict().items():
        assert torch.equal(value, resumed.model.module.state_dict()[name]), name


def short_of_memory(trainer, n_atoms):
    """Let the device be out of memory wherever a pass is over more atoms."""

    def refuse(_module, inputs):
        if len(inputs[0]["positions"]) > n_atoms:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    trainer.module.register_forward_pre_hook(refuse)


@pytest.mark.parametrize("passes", [2, 4, 8])
def test_gradients_of_parts_are_those_of_the_whole_batch(tmp_path, passes):
    found = []
    for number in (1, passes):
        trainer = trainer_of(tmp_path)
        trainer.state.passes = number
        batch = next(trainer._batches())
        loss = trainer._backward(batch)
        found.append((float(loss), torch.cat([p.grad.flatten() for p in trainer.parameters if p.grad is not None])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-12)
    assert found[0][1].abs().max() > 1e-3


def test_with_too_little_memory_training_goes_on_in_parts(tmp_path):
    notes = []
    trainer = trainer_of(tmp_path, notes)
    short_of_memory(trainer, 40)
    done = trainer.run()
    assert done.epochs == 3
    assert notes == ["CUDA out of memory: from now on a step takes 2 passes, each over a part of its batch"]
    assert trainer_of(tmp_path).run().steps == done.steps  # it is known to the checkpoint
    small = trainer_of(tmp_path / "small")
    short_of_memory(small, 31)
    with pytest.raises(StageFailed, match=r"too small for a frame of 32 atoms \(CUDA out of memory\)"):
        small.run()


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


def test_foundation_by_file(exported):
    model, folder = exported
    potential = MaceBackend().foundation(str(folder / "student.model"), "cpu")
    assert potential.compute([alloy(1)])[0].energy_eV == pytest.approx(
        MaceBackend().potential(model, "cpu").compute([alloy(1)])[0].energy_eV
    )


def test_foundation_by_name_uses_the_cache(exported, monkeypatch, tmp_path):
    """A local stand-in takes the place of the download that users get."""
    from ipip_ext.backends.mace._mace import foundations

    known = foundations()
    monkeypatch.setattr(known, "get_cache_dir", lambda: str(tmp_path))
    monkeypatch.setattr(known, "_urlretrieve_with_timeout", lambda *_a, **_k: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(CalculatorError, match=r"put it at .*20231210mace128L0_energy_epoch249model"):
        MaceBackend().foundation("small", "cpu")
    with pytest.raises(CalculatorError, match=r"put it at .*MACE-OFF23_small.model"):
        MaceBackend().foundation("mace_off:small", "cpu")
    assert "mace_agnesi_small.model" not in known_models.KNOWN_SHA256  # a stand-in is not what was released
    stand_in = (exported[1] / "student.model").read_bytes()
    (tmp_path / "mace_agnesi_smallmodel").write_bytes(stand_in)
    assert np.isfinite(MaceBackend().foundation("small-0b", "cpu").compute([alloy(1)])[0].energy_eV)


class Evil:
    """What a stranger's model file may hold."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(("name", "cached"), [
    ("small", "20231210mace128L0_energy_epoch249model"), ("mace_off:small", "MACE-OFF23_small.model"),
])  # fmt: skip
def test_a_download_that_is_not_the_released_model_is_not_unpickled(exported, monkeypatch, tmp_path, name, cached):
    """From a server of this machine, which first has another file than the one released."""
    from ipip_ext.backends.mace._mace import foundations

    known, site, cache = foundations(), tmp_path / "site", tmp_path / "cache"
    urls = known.mace_off_urls if name.startswith("mace_off") else known.mace_mp_urls
    released_as = urls["small"].rsplit("/", 1)[-1]
    site.mkdir()
    torch.save(Evil(tmp_path / "ran"), site / released_as)
    monkeypatch.setattr(known, "get_cache_dir", lambda: str(cache))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setitem(urls, "small", f"http://127.0.0.1:{server.server_port}/{released_as}")
        for _ in range(2):  # when it is downloaded, and when it is found in the cache
            with pytest.raises(ModelFileError, match=rf"{cached}: is not the {released_as} .* Delete it"):
                MaceBackend().foundation(name, "cpu")
        assert not (tmp_path / "ran").exists()
        (cache / cached).unlink()
        student = (exported[1] / "student.model").read_bytes()
        (site / released_as).write_bytes(student)
        monkeypatch.setitem(known_models.KNOWN_SHA256, released_as, hashlib.sha256(student).hexdigest())
        assert np.isfinite(MaceBackend().foundation(name, "cpu").compute([alloy(1)])[0].energy_eV)
        server.shutdown()
    assert [path.name for path in cache.iterdir()] == [cached]


def test_foundation_errors(tmp_path):
    with pytest.raises(CalculatorError, match="Did you mean medium-mpa-0"):
        MaceBackend().foundation("medium-mpa0", "cpu")
    broken = tmp_path / "broken.model"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"broken\.model"):
        MaceBackend().foundation(str(broken), "cpu")
    torch.save({"a": 1}, broken)
    with pytest.raises(ModelFileError, match="no MACE model"):
        MaceBackend().foundation(str(broken), "cpu")


def test_unknown_element_is_named(exported):
    atoms = alloy(1)
    atoms.symbols[0] = "Ni"
    with pytest.raises(DataError, match="Ni"):
        MaceBackend().potential(exported[0], "cpu").compute([atoms])


@pytest.mark.parametrize("irreps", ["64x0e+32x1o", "32x1o", "thirty-two", "0x0e"])
def test_impossible_irreps_are_refused(irreps):
    with pytest.raises(ValueError, match=r"MACE|must read"):
        MaceConfig(hidden_irreps=irreps)
