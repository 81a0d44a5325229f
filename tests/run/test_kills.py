"""Killed wherever it may be, a run that was to begin anew shows nothing old, and goes on by the told command."""

from __future__ import annotations

import json
import shutil
from itertools import count
from pathlib import Path

import pytest
from alloy import refused
from killed import killed
from mlflow.tracking import MlflowClient

from ipip_ext import runner
from ipip_ext.check.status import status
from ipip_ext.check.verify import verify
from ipip_ext.errors import UserError, WorkspaceError
from ipip_ext.measure.timing import finished as stages_of
from ipip_ext.recipe.file import load_recipe
from ipip_ext.recipe.recipe import Recipe
from ipip_ext.run import redo
from ipip_ext.run.layout import MODEL, PUBLISHED, RECIPE, TABLE
from ipip_ext.stages.order import FIRST_STAGE, STAGES
from ipip_ext.teachers.load import load_calculator

RUN = Path("runs/tiny")
UNTRACKED = "tracking.enabled=false"

pytestmark = pytest.mark.slow


def recipe(*changes: str) -> Recipe:
    return load_recipe(Path("recipe.yaml"), changes)


def run(asked: Recipe, stage: str | None = None) -> None:
    runner.run(asked, RUN, stage, quiet=True)


def kind(stage: str) -> str:
    return stage.rsplit("/", 1)[-1]


def assert_withdrawn(*, model: bool) -> None:
    """Assert that nobody takes what stands there for a result. model: whether that is void too."""
    assert not any((RUN / name).exists() for name in PUBLISHED)
    assert "not finished" in str(status(RUN))
    assert "has no comparison yet" in refused("compare", RUN)
    with pytest.raises(UserError, match="has no comparison yet"):
        verify(RUN)
    if model:
        with pytest.raises(UserError, match="has no finished model yet"):
            load_calculator(RUN)
    else:
        assert load_calculator(RUN) is not None


def numbers(text: str) -> list[list[str]]:
    """Return the cells of a table but those of times, which no two runs share."""
    header, *rows = [line.split(",") for line in text.splitlines()]
    kept = [index for index, name in enumerate(header) if "_ms" not in name and "_s" not in name[-2:]]
    return [[row[index] for index in kept] for row in (header, *rows)]


@pytest.fixture
def stages(finished) -> list[str]:
    """The names of the finished run's stages, in the order in which they ended."""
    return [path.relative_to(RUN).as_posix() for path in stages_of(RUN)]


def test_a_redo_of_any_stage_killed_at_its_beginning(stages, monkeypatch):
    """From the last stage to the first, so that each finds those before it; then the told command ends as ever."""
    table = (RUN / TABLE).read_text()
    weights = {path: path.read_bytes() for path in sorted(RUN.rglob("student.safetensors"))}
    for index, stage in reversed(list(enumerate(stages))):
        with killed(monkeypatch, at=("started", stage)):
            run(recipe(UNTRACKED), stage)
        assert_withdrawn(model=index <= stages.index(MODEL))
        assert [path.relative_to(RUN).as_posix() for path in stages_of(RUN)] == stages[:index]
        with killed(monkeypatch, at=("started", stage)):
            run(recipe(UNTRACKED))  # the command that is told: it goes on where that one died
    run(recipe(UNTRACKED))
    assert {path: path.read_bytes() for path in sorted(RUN.rglob("student.safetensors"))} == weights
    assert numbers((RUN / TABLE).read_text()) == numbers(table)
    assert not any(claim.problem for claim in verify(RUN))


def test_a_stage_that_this_run_has_not_is_refused(stages):
    """Else what stands would be withdrawn for nothing."""
    for stage in set(STAGES) - set(map(kind, stages)):
        said = refused("run", "recipe.yaml", "--redo", stage)
        assert f"--redo {stage}: {RUN} holds no such stage; `ipip-mace status {RUN}` lists them." in said
    assert (RUN / TABLE).exists()
    assert redo.pending(RUN) == ()


CHANGES = {
    "name": ("name=other", "prepare"),
    "seed": ("seed=4", "prepare"),
    "data": ("data.valid_fraction=0.5", "prepare"),
    "teacher": ('teacher={"python": "ase.calculators.lj:LennardJones"}', "explore"),
    "explore": ("explore.n_steps=20", "explore"),
    "correct": ("correct.form=scale", "correct"),
    "student": ("student.num_bessel=5", "iter-00/pretrain"),
    "pretrain": ("pretrain.epochs=2", "iter-00/pretrain"),
    "finetune": ("finetune.epochs=2", "iter-00/finetune"),
    "sample": ("sample={n_steps: 20}", "iter-00/sample"),
    "select": ("select.max_force_eV_per_A=30", "iter-00/select"),
    "label": ("label.retain=0.25", "iter-00/label"),
    "forget": ("forget.groups=[interactions]", "iter-00/forget"),
}
"""By section: a change, and the stage from which it is to be started over."""


def test_every_section_that_decides_a_result_is_changed():
    assert set(CHANGES) == set(FIRST_STAGE) - {"adapt"}  # which EMT can't


@pytest.mark.parametrize(("change", "stage"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_killed_at_the_beginning_of_its_redo(finished, monkeypatch, change, stage):
    changed = recipe(change, UNTRACKED)
    with pytest.raises(WorkspaceError, match=f"start over with --redo {kind(stage)}"):
        run(changed)
    with killed(monkeypatch, at=("started", stage)):
        run(changed, kind(stage))
    assert_withdrawn(model=True)
    with killed(monkeypatch, at=("started", stage)):
        run(changed)
    with pytest.raises(WorkspaceError, match="belongs to another recipe"):
        run(recipe(UNTRACKED))


@pytest.mark.parametrize(
    ("change", "model"),
    [("baselines=[{kind: teacher}]", False), ("evaluate.speed_steps=3", False), ("iterations=1", True)],
)
def test_a_change_that_needs_no_redo(finished, monkeypatch, change, model):
    """The model is withdrawn where it may be another."""
    changed = recipe(change, UNTRACKED)
    for _ in range(2):
        with killed(monkeypatch, at=("reused", "prepare")):
            run(changed)
        assert_withdrawn(model=model)


def test_killed_anywhere_between_the_command_and_its_first_stage(finished_run, tmp_path, monkeypatch):
    """At every seventh change of a file's name: what is shown is of the recipe that stands there."""
    stage = "iter-00/finetune"
    for n in count(0, 7):
        shutil.copytree(finished_run, tmp_path / str(n))
        monkeypatch.chdir(tmp_path / str(n))
        before, changed = (RUN / RECIPE).read_text(), recipe("finetune.lr=0.001", UNTRACKED)
        with killed(monkeypatch, at=("started", stage), after=n) as death:
            run(changed, "finetune")
        if (RUN / RECIPE).read_text() != before:
            assert_withdrawn(model=True)
        elif (RUN / TABLE).exists():
            assert not any(claim.problem for claim in verify(RUN))
        else:
            assert "not finished" in str(status(RUN))
        is_known = bool(redo.pending(RUN)) or (RUN / f"{stage}.part").exists()
        assert is_known == (n > 0)
        with killed(monkeypatch, at=("started", stage)):
            run(changed, None if is_known else "finetune")
        left = [path.relative_to(RUN).as_posix() for path in stages_of(RUN)]
        assert left == ["prepare", "explore", "iter-00/pretrain"]
        if death.event is not None:
            break
    assert n > 70  # files of the run's, one by one


def test_mlflow_knows_that_its_numbers_are_of_before(finished, monkeypatch):
    with killed(monkeypatch, at=("started", "report")):
        run(recipe(), "speed")
    client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
    (store,) = json.loads((RUN / "tracking.json").read_text()).values()
    parent = store["runs"][""]

    def tag() -> str:
        return client.get_run(parent).data.tags["ipip.result"]

    assert tag() == "withdrawn: starts over from speed"
    run(recipe())
    assert tag() == "final"
