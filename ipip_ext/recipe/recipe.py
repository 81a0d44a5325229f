"""The recipe: what a user asks for, checked before anything runs.

Each section is a frozen model; the docstring under a field is its documentation, and
`docs/recipe.md` and `ipip-mace schema` are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializeAsAny,
    StrictBool,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from ipip_ext.recipe import students
from ipip_ext.recipe.baselines import Baseline, Scratch, TeacherBaseline
from ipip_ext.recipe.compute import Compute
from ipip_ext.recipe.data import Data
from ipip_ext.recipe.evaluate import Evaluate
from ipip_ext.recipe.forget import Forget
from ipip_ext.recipe.given import Origin, of_keywords, prepared
from ipip_ext.recipe.labels import Committee, Correction, Label, Select
from ipip_ext.recipe.numbers import Rounds, Share
from ipip_ext.recipe.schema import Section, explain
from ipip_ext.recipe.tracking import Tracking
from ipip_ext.recipe.training import Adapt, Finetune, Pretrain
from ipip_ext.recipe.walk import Explore


class Recipe(Section):
    """Everything a run needs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the run and of its folder `runs/<name>`."""

    seed: Annotated[int, Field(ge=0, le=2**64)] = 0
    """All randomness derives from it."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto takes a GPU where there is one."""

    threads: Annotated[int, Field(gt=0, le=1024)] | None = 1
    """CPU threads of torch; null leaves the choice to torch. On the small graphs of a small MACE a second
    thread gains a third on an idle machine, and loses tenfold on a busy one, where threads wait for each
    other by spinning (docs/benchmarks.md)."""

    parallel: StrictBool = True
    """Compute what is independent side by side, in processes of this machine, on a CPU with cores to spare
    (`compute.place`). The results are the same, only sooner."""

    iterations: Rounds = 2
    """Rounds of pretrain, finetune, sample, label, forget."""

    min_improvement: Share | None = 0.01
    """Stop early when an iteration lowers the validation force error by less than this share; null: never."""

    data: Data
    """The task's labels."""

    teacher: str | dict[str, Any]
    """Foundation model: `chgnet`; `{xtb: GFN1-xTB}`; `{mace: file or mace_mp name}`;
    `{python: "package.module:factory", kwargs: {}}`;
    `{lammps: pair_style, pair_coeff: ["* * file Mo S"], elements: [Mo, S]}`."""

    student: SerializeAsAny[Section] = Field(default_factory=students.config_class("mace"), validate_default=True)
    """The small model; its keys depend on `backend`."""

    adapt: Adapt | None = None
    """Fine-tune the teacher, chgnet or {mace: ...}, on the training frames: then it is this one that labels the pool
    and all that is found later, and no correction is fitted. Once more where `label.reference` has added training
    frames. It costs a training of the teacher, and taught better than any correction (docs/results.md). null: the
    teacher as it comes."""

    explore: Explore
    """MD by the teacher."""

    correct: Correction = Correction()
    """Correction of the teacher's labels, fitted anew when `label.reference` has added training frames: then for new
    labels, and with `label.relabel` for those of the old pool too."""

    sample: Explore | None = None
    """MD by the student, which is cheap, so it can walk further. null: as `explore`. Without `starts` of its own, all
    keys that are not given are as in `explore`: {n_steps: 5000} walks on from there. With `starts`, keys that are not
    given have the defaults of `explore`."""

    pretrain: Pretrain = Pretrain()
    """Training on pseudo-labels."""

    finetune: Finetune = Finetune()
    """Training on the task's labels."""

    select: Select = Select()
    """Choice of new frames."""

    label: Label = Label()
    """Labels for new frames."""

    committee: Committee = Committee()
    """Trained where `label` needs it, or where it is exported."""

    forget: Forget = Forget()
    """Re-initialisation between iterations."""

    baselines: tuple[Baseline, ...] = (TeacherBaseline(), Scratch())
    """What the student is set beside, each with a name of its own and under the same metric names."""

    evaluate: Evaluate = Evaluate()
    """Measurements."""

    tracking: Tracking = Tracking()
    """MLflow."""

    compute: Compute = Compute()
    """Where stages are computed."""

    _folder: Path = PrivateAttr(default=Path())
    _file: str = PrivateAttr(default="recipe")

    @property
    def folder(self) -> Path:
        """Folder of the recipe file, where relative paths and `python:` factories are looked for."""
        return self._folder

    @property
    def file(self) -> str:
        """Name of the recipe file, as messages give it."""
        return self._file

    @property
    def needs_committee(self) -> bool:
        """Whether labelling asks a committee."""
        return self.label.policy in ("committee", "cross") or self.label.reference is not None

    @property
    def corrects(self) -> bool:
        """Whether the teacher's labels are corrected."""
        return self.correct.form != "none" and self.adapt is None

    def zeros_of_pretraining(self, e0s_eV: Mapping[str, float]) -> Mapping[str, float]:
        """Return the energy zeros of a student before it meets the task's energies.

        Where pretraining looks at forces alone and fine-tuning fits the zeros, they are 0: what is pretrained
        then depends on no label of the task, and the points of a learning curve share it.
        """
        if self.pretrain.energy_weight > 0 or self.data.e0s != "fitted":
            return e0s_eV
        return dict.fromkeys(e0s_eV, 0.0)

    def starts_of_students(self, prepared: Path) -> Path:
        """Return the file that students walk from. prepared: `explore`'s, with charge and spin under their usual names.

        A `sample` that walks from the same file as `explore` needs them there too.
        """
        if self.sample is None:
            return prepared
        renamed = self.data.charge_key is not None or self.data.spin_key is not None
        return prepared if renamed and self.sample.starts == self.explore.starts else self.sample.starts

    @property
    def backend(self) -> str:
        """Name of the student's backend."""
        return str(self.student.backend)  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _sample_as_explore(cls, raw: Any) -> Any:
        """Fill in a `sample` without starts. One with starts stays what it has meant to runs that are finished."""
        if not isinstance(raw, dict) or not isinstance(raw.get("sample"), dict) or "starts" in raw["sample"]:
            return raw
        explore = raw.get("explore")
        there = explore.model_dump() if isinstance(explore, Explore) else explore
        return {**raw, "sample": _over(there, raw["sample"])} if isinstance(there, dict) else raw

    @model_validator(mode="after")
    def _mended_once(self) -> Recipe:
        if self.adapt is not None and self.correct.form not in ("none", "auto"):
            raise ValueError(
                f"adapt and correct.form {self.correct.form} would both mend the teacher on the same frames; leave one"
                " of them out"
            )
        if self.adapt is None and any(baseline.kind == "adapted" for baseline in self.baselines):
            raise ValueError(
                "the baseline adapted is the teacher that adapt has fine-tuned; add adapt, such as adapt: {}"
            )
        return self

    # the last, so that it stands around all others
    @model_validator(mode="wrap")
    @classmethod
    def _of_words(cls, words: Any, make: ModelWrapValidatorHandler[Recipe], info: ValidationInfo) -> Recipe:
        """Make a recipe of a file's words, whose Origin is the context, or of keyword arguments, which have none.

        Raises RecipeError. Paths of a recipe without a file count from the working directory.
        """
        if isinstance(words, Recipe):
            return make(words)
        origin = info.context or Origin("Recipe(...)", Path.cwd())
        raw = words if info.context else of_keywords(words, origin)
        try:
            recipe = make(prepared(raw, origin))
        except ValidationError as error:
            raise explain(error, cls, origin.where) from None
        recipe._folder, recipe._file = origin.root, origin.where
        return recipe


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return `below` with the values of `above`, also within sections that both have."""
    both = {k: _over(below[k], v) for k, v in above.items() if isinstance(v, dict) and isinstance(below.get(k), dict)}
    return below | above | both
