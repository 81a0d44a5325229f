"""A training that goes to NaN says which frames did it; a fine-tuning is tried once more, more calmly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ipip_ext.backends.conformance.task import E0S_EV, alloy
from ipip_ext.backends.mace.backend import MaceBackend
from ipip_ext.data import frames as fr
from ipip_ext.errors import Diverged, StageFailed
from ipip_ext.potentials.base import Prediction
from ipip_ext.recipe.students import MaceConfig
from ipip_ext.recipe.training import Finetune
from ipip_ext.run.events import Event, EventBus
from ipip_ext.run.stage import Done
from ipip_ext.run.workspace import Workspace
from ipip_ext.stages.committee import committee
from ipip_ext.stages.evaluate import predict
from ipip_ext.stages.inputs import Size, Task
from ipip_ext.stages.train import finetune, scratch

STUDENT = MaceConfig(
    hidden_irreps="4x0e+4x1o", max_ell=1, r_max_A=4.0, radial_MLP=(8,), MLP_irreps="4x0e", num_bessel=4,
    dtype="float32",
)  # fmt: skip
TOO_FAST, FAR_TOO_FAST = 100.0, 1e6
"""Learning rates: with a tenth of the first, numbers are poor but finite."""


class Killed(BaseException):
    """What no code of a run expects."""


@pytest.fixture
def task(tmp_path) -> Path:
    """A folder with a model to fine-tune, and frames."""
    frames = [alloy(seed) for seed in range(8)]
    fr.write_frames(tmp_path / "train.extxyz", frames[:6])
    fr.write_frames(tmp_path / "valid.extxyz", frames[6:])
    backend = MaceBackend()
    backend.save(backend.build(STUDENT, E0S_EV, frames, seed=1), tmp_path / "model")
    return tmp_path


def plant(task: Path) -> None:
    """Let a label be more than float32 holds."""
    frames = fr.read_frames(task / "train.extxyz")
    frames[4].arrays[fr.FORCES][2, 0] = 1e39
    frames[4].info[fr.ID] = "planted"
    fr.write_frames(task / "train.extxyz", frames)


def tune(task: Path, lr: float, bus: EventBus | None = None, name: str = "run") -> Done:
    return Workspace(task / name, bus or EventBus(), seed=3).at("iter-00").do(
        finetune, Finetune(epochs=4, batch_size=3, lr=lr, replay_fraction=0.0), student=STUDENT,
        model=task / "model", task=Task(task / "train.extxyz", task / "valid.extxyz"), pool=task / "train.extxyz",
    )  # fmt: skip


def test_a_fine_tuning_that_diverges_is_tried_again_from_its_best_weights(task):
    said: list[Event] = []
    done = tune(task, TOO_FAST, EventBus([said.append]))
    assert done.retry["lr"] == pytest.approx(TOO_FAST / 10)
    assert "is not finite in epoch" in done.retry["because"]
    assert "alloy-" in done.retry["because"]
    (note,) = [event for event in said if event.kind == "note"]
    assert (note.stage, note.name) == ("iter-00/finetune", f"{done.retry['because']}; once more from the best weights"
                                       " before that, with lr 10")  # fmt: skip
    values = json.loads((done.folder / "stage.json").read_text())["values"]
    assert values["retry"] == done.retry
    assert all(np.isfinite(values).all() for values in load_file(done.model / "student.safetensors").values())
    assert sorted(path.name for path in done.folder.iterdir()) == ["model", "stage.json"]
    lrs = [event.value for event in said if event.name == "lr"]
    assert max(lrs[-4:]) <= TOO_FAST / 10


def test_killed_in_the_second_attempt_it_goes_on_with_that(task):
    straight = tune(task, TOO_FAST, name="straight")
    part = task / "run/iter-00/finetune.part"

    def kill(event: Event) -> None:
        if event.name == "train_loss" and (part / "refit/checkpoint.pt").exists() and event.step == 2:
            raise Killed

    with pytest.raises(Killed):
        tune(task, TOO_FAST, EventBus([kill]))
    said: list[Event] = []
    resumed = tune(task, TOO_FAST, EventBus([said.append]))
    assert [event.step for event in said if event.name == "train_loss"] == [2, 3]
    assert resumed.record["values"] == straight.record["values"]
    assert resumed.record["outputs"] == straight.record["outputs"]


def test_one_that_diverges_again_fails_with_the_frames_named(task):
    for _ in range(2):  # asked again, it fails in the same way
        with pytest.raises(Diverged, match=r"^iter-00/finetune: .*frames in the batch: .*with a tenth of lr, 100000,"):
            tune(task, FAR_TOO_FAST)
    assert not (task / "run/iter-00/finetune").exists()
    plant(task)
    with pytest.raises(Diverged, match=r"training loss is not finite .*planted.* a tenth .*planted.*these labels"):
        tune(task, 0.001, name="planted")


def test_only_a_fine_tuning_is_tried_again(task):
    settings = Finetune(epochs=4, batch_size=3, lr=FAR_TOO_FAST, replay_fraction=0.0)
    with pytest.raises(Diverged, match=r"^scratch: the training loss .*alloy-") as told:
        Workspace(task / "run", EventBus(), seed=3).do(
            scratch, settings, student=STUDENT, e0s_eV=E0S_EV, task=Task(task / "train.extxyz", task / "valid.extxyz")
        )
    assert "tenth" not in str(told.value)


def test_one_that_does_not_diverge_says_so(task):
    assert tune(task, 0.001).retry is None


def members(task: Path, lr: float, bus: EventBus) -> Done:
    """Let a committee be made in which the student itself is a sane one."""
    return Workspace(task / "run", bus, seed=3).at("iter-00").do(
        committee, Finetune(epochs=4, batch_size=3, lr=lr, replay_fraction=0.0), student=STUDENT,
        wanted=Size(2, bootstrap=True), pretrained=task / "model", tuned=task / "model",
        task=Task(task / "train.extxyz", task / "valid.extxyz"), pool=task / "train.extxyz",
    )  # fmt: skip


def test_a_member_of_a_committee_that_diverges_is_tried_again_too(task):
    said: list[Event] = []
    made = members(task, TOO_FAST, EventBus([said.append]))
    (note,) = [event.name for event in said if event.kind == "note"]
    assert note.startswith("member 1: the ")
    assert "is not finite in epoch" in note
    assert note.endswith("once more from the best weights before that, with lr 10")
    weights = load_file(made.folder / "members/1/student.safetensors")
    assert all(np.isfinite(values).all() for values in weights.values())
    assert sorted(path.name for path in made.folder.iterdir()) == ["calibration.json", "members", "stage.json"]


def test_a_member_that_diverges_again_is_named(task):
    with pytest.raises(Diverged, match=r"^iter-00/committee, member 1: .*with a tenth of lr, 100000,"):
        members(task, FAR_TOO_FAST, EventBus())


def test_a_label_that_is_not_finite_stops_the_stage_with_its_frame(task):
    frames = fr.read_frames(task / "train.extxyz")
    frames[2].arrays[fr.FORCES][1, 1] = np.nan
    frames[2].info[fr.ID] = "spoilt"
    fr.write_frames(task / "train.extxyz", frames)
    with pytest.raises(Diverged, match=r"^iter-00/finetune: .*frames in the batch: [^)]*spoilt"):
        tune(task, 0.001)


def test_a_force_that_is_not_finite_stops_the_evaluation_with_its_frame(task):
    class Says:
        name, batched, n_parameters = "says", True, None

        def compute(self, frames, **_options):
            forces = [np.zeros((len(frame), 3)) for frame in frames]
            forces[1][0, 0] = np.inf
            return [Prediction(0.0, own) for own in forces]

    frames = fr.read_frames(task / "valid.extxyz")
    with pytest.raises(StageFailed, match=rf"says: no label for frame {frames[1].info[fr.ID]} .*not finite"):
        predict(Says(), frames, 2)
