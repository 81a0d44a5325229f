"""The convolution that a CPU runs is MACE's own up to rounding, and leaves no trace in a model."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from ase import Atoms

from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace import convolution
from ipip_ext.backends.mace._mace import modules
from ipip_ext.backends.mace.graphs import collate, graph_of, species_index
from ipip_ext.backends.mace.model import Student, build, measure
from ipip_ext.recipe.students import MaceConfig

LONE = Atoms("Cu", [[0.0, 0.0, 0.0]], cell=[20.0] * 3, pbc=True)
FRAMES = [alloy(0), alloy(1, repeat=2), alloy(2)[:1]]
"""Two cells, and an atom whose only neighbours are its own images."""


def student(hidden_irreps: str, max_ell: int) -> Student:
    config = MaceConfig(hidden_irreps=hidden_irreps, max_ell=max_ell, r_max_A=4.0, radial_MLP=(8,), dtype="float64")
    return build(measure(config, E0S_EV, FRAMES), seed=3)


def evaluate(model: Student, module: torch.nn.Module, frames: list[Atoms]) -> dict[str, torch.Tensor]:
    index = species_index(model.spec.atomic_numbers)
    batch = collate([graph_of(frame, index, 4.0, torch.float64) for frame in frames], len(index), "cpu")
    return module(batch, training=True, compute_stress=True)


def results(model: Student, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    output = evaluate(model, module, FRAMES)
    loss = output["energy"].sum() + (output["forces"] ** 2).sum() + (output["stress"] ** 2).sum()
    names, parameters = zip(*module.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    return {key: output[key].detach() for key in ("energy", "forces", "stress")} | dict(
        zip(names, gradients, strict=True)
    )


@pytest.mark.parametrize(("hidden_irreps", "max_ell"), [("4x0e", 1), ("4x0e+4x1o", 2), ("4x0e+4x1o+4x2e", 3)])
def test_energies_forces_stress_and_gradients_are_those_of_e3nn(hidden_irreps, max_ell):
    model = student(hidden_irreps, max_ell)
    plain = results(model, model.module)
    quick = copy.deepcopy(model.module)
    convolution.install(quick)
    assert all(interaction.conv_fusion for interaction in quick.interactions)
    for name, value in results(model, quick).items():
        assert torch.allclose(value, plain[name], rtol=1e-10, atol=1e-10 * float(plain[name].abs().max())), name
    lone = [evaluate(model, module, [LONE])["energy"] for module in (model.module, quick)]
    assert torch.equal(*lone)


def test_a_module_is_itself_again_after_removal():
    model = student("4x0e+4x1o", 2)
    names = list(model.module.state_dict())
    plain = results(model, model.module)
    convolution.install(model.module)
    convolution.install(model.module)  # twice is once
    assert list(model.module.state_dict()) == names
    convolution.remove(model.module)
    assert not any(hasattr(interaction, "conv_fusion") for interaction in model.module.interactions)
    after = results(model, model.module)
    assert all(torch.equal(after[name], plain[name]) for name in plain)
    file = io.BytesIO()
    torch.save(model.module, file)
    assert b"ipip_ext" not in file.getvalue()


def test_what_is_no_plain_product_keeps_its_own_convolution():
    module = student("4x0e+4x1o", 2).module
    first, last = module.interactions
    first.conv_fusion = True  # another library's
    last.conv_tp = modules.blocks.Linear(last.conv_tp.irreps_in1, last.conv_tp.irreps_in1)
    convolution.install(module)
    assert "forward" not in vars(first.conv_tp)
    assert "forward" not in vars(last.conv_tp)
    assert not hasattr(last, "conv_fusion")
