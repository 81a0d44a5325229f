"""A GPU that fails ends the run with one line; what is finished stays, and the same command goes on.

A calculator that raises what torch does takes the place of the GPU, which can't be broken on request.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from alloy import cell, write_recipe
from click.testing import CliRunner

from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.cli.main import main
from ipip_ext.errors import DeviceLost
from ipip_ext.potentials.compute import compute_each
from ipip_ext.recipe.training import Fit
from ipip_ext.run.events import EventBus, read_events
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages import train
from ipip_ext.stages.inputs import Task
from ipip_ext.teachers.entries import make

LOST = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"
SHORT = "CUDA error: out of memory"
FACTORY = """
import pathlib
from ase.calculators.emt import EMT

class OnGpu(EMT):
    calls = 0

    def calculate(self, *arguments, **options):
        OnGpu.calls += 1
        if OnGpu.calls > {after} and not pathlib.Path("mended").exists():
            raise RuntimeError({said!r})
        super().calculate(*arguments, **options)
"""


@pytest.mark.parametrize("factory", ["device_a", "device_b"])
def test_no_frame_pays_for_a_lost_device(tmp_path, monkeypatch, factory):
    monkeypatch.chdir(tmp_path)
    said = LOST if factory == "device_a" else SHORT
    (tmp_path / f"{factory}.py").write_text(FACTORY.format(after=2, said=said))
    potential = make({"python": f"{factory}:OnGpu"}, device="cpu", root=tmp_path)
    frames = [cell(seed) for seed in range(4)]
    if said == SHORT:  # that may be this frame's own fault
        assert sorted(compute_each(potential, frames)[1]) == [2, 3]
    else:
        with pytest.raises(DeviceLost, match=r"the device is lost \(CUDA error: unspecified launch failure\)\. All"):
            compute_each(potential, frames)


@pytest.mark.parametrize("ensemble", ["nvt_langevin", "nvt_bussi"])
def test_a_run_whose_device_is_lost_goes_on_where_it_was(tmp_path, alloy_data, monkeypatch, ensemble):
    monkeypatch.chdir(tmp_path)
    name = f"gpu_{ensemble}"
    (tmp_path / f"{name}.py").write_text(FACTORY.format(after=60, said=LOST))
    sizes = {"iterations": 1, "tracking__enabled": False, "pretrain__epochs": 1, "finetune__epochs": 1,
             "explore__ensemble": ensemble, "explore__n_steps": 60, "baselines": []}  # fmt: skip
    write_recipe(tmp_path, alloy_data, teacher={"python": f"{name}:OnGpu"}, **sizes)
    first = CliRunner().invoke(main, ["run", "recipe.yaml"])
    assert first.exit_code == 1, first.output
    (line,) = [line for line in first.stderr.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: explore: the device is lost (CUDA error: unspecified launch failure). All that is")
    run = tmp_path / "runs/tiny"
    prepared = (run / "prepare/stage.json").read_bytes()
    assert not (run / "explore").exists()
    assert [e.name for e in read_events(run / "events.jsonl") if e.kind == "run"] == ["started", "stopped"]
    Path("mended").touch()
    again = CliRunner().invoke(main, ["run", "recipe.yaml"])
    assert again.exit_code == 0, again.output
    assert (run / "prepare/stage.json").read_bytes() == prepared
    notes = [e.name for e in read_events(run / "events.jsonl") if e.kind == "note" and e.stage == "explore"]
    assert not any("CUDA" in note for note in notes)


def test_a_training_whose_device_is_lost_keeps_its_checkpoint(tmp_path, monkeypatch):
    from ipip_ext.backends.training import Trainer
    from ipip_ext.data import frames as fr
    from ipip_ext.recipe.students import MaceConfig

    fr.write_frames(tmp_path / "train.extxyz", [alloy(seed) for seed in range(4)])
    small = MaceConfig(hidden_irreps="4x0e", max_ell=1, r_max_A=4.0, radial_MLP=(8,), MLP_irreps="4x0e", num_bessel=4)

    def trained(name: str) -> Path:
        return Workspace(tmp_path / name, EventBus(), seed=1).do(
            train.scratch, Fit(epochs=3, batch_size=2), student=small, e0s_eV=E0S_EV,
            task=Task(tmp_path / "train.extxyz", tmp_path / "train.extxyz"),
        ).model  # fmt: skip

    straight, backward = trained("straight"), Trainer._backward

    def lost(self: Trainer, batch: object) -> object:
        if self.state.epoch == 2:
            raise RuntimeError(LOST)
        return backward(self, batch)

    with monkeypatch.context() as broken:
        broken.setattr(Trainer, "_backward", lost)
        with pytest.raises(DeviceLost, match=r"^scratch: the device is lost \(CUDA error: unspecified"):
            trained("run")
    assert (tmp_path / "run/scratch.part/fit/checkpoint.pt").exists()
    resumed = trained("run")
    assert (resumed / "student.safetensors").read_bytes() == (straight / "student.safetensors").read_bytes()


def test_what_is_no_loss_of_the_device_is_left_alone():
    assert DeviceLost.told_by(ValueError("no CUDA here")) is None
    assert DeviceLost.told_by(RuntimeError(SHORT)) is None
    lost = DeviceLost.told_by(RuntimeError("HIP error: invalid device ordinal"))
    assert DeviceLost.told_by(lost) is lost
