"""The recipe: what a user asks for, checked before anything runs.

Each section is a frozen model; the docstring under a field is its documentation, and
`docs/recipe.md` and `ipip-mace schema` are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from ipip_ext.recipe import students
from ipip_ext.recipe.baselines import (
    AdaptedBaseline,
    Baseline,
    CalculatorBaseline,
    Conventional,
    Distilled,
    Finetuned,
    NoForget,
    Scratch,
    TeacherBaseline,
)
from ipip_ext.recipe.evaluate import Evaluate, Properties, Stability
from ipip_ext.recipe.given import Origin, of_keywords, prepared
from ipip_ext.recipe.labels import Asking, Committee, Correction, Label, Reference, Select
from ipip_ext.recipe.schema import Section, explain
from ipip_ext.recipe.training import Adapt, Finetune, Fit, Forget, Pretrain, Share
from ipip_ext.recipe.walk import Explore, Guard

__all__ = [
    "Adapt", "AdaptedBaseline", "Asking", "Baseline", "CalculatorBaseline", "Committee", "Conventional",
    "Correction", "Data", "Distilled", "Evaluate", "Explore", "Finetune", "Finetuned", "Fit", "Forget", "Guard",
    "Label", "NoForget", "Ood", "Pretrain", "Properties", "Recipe", "Reference", "Scratch", "Section", "Select",
    "Stability", "TeacherBaseline", "Tracking",
]  # fmt: skip


class Ood(Section):
    """Which test frames are out of distribution, and so are reported apart."""

    key: str = "start"
    """`info` key of a frame that names where it came from."""

    values: tuple[str, ...]
    """Values of that key that training does not hold."""


class Data(Section):
    """The task's reference labels."""

    train: Path
    """Labelled frames to learn from (extended XYZ or any format ASE reads)."""

    test: Path
    """Labelled frames for the final comparison; never used for training or selection."""

    valid: Path | None = None
    """Labelled frames for choosing models. Without it `valid_fraction` of train is held out."""

    valid_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of train held out when `valid` is not given."""

    valid_split: Literal["random", "stratified", "grouped"] = "random"
    """`stratified` holds out the share of every group of `split_keys`; `grouped` holds out whole groups,
    for frames of one trajectory that are too alike to stand on both sides."""

    split_keys: tuple[str, ...] = ()
    """`info` keys that make a group, such as [start, temperature_K]."""

    n_train: PositiveInt | None = None
    """Train on this many frames only, for a learning curve; null: on all. They are drawn by the seed after
    validation is held out, so validation and test stay what they are, and fewer frames are a subset of more.
    With `valid_split: stratified` every group of `split_keys` gives its share."""

    max_force_eV_per_A: PositiveFloat | None = None
    """Leave out of `train` the frames in which the force on an atom is larger, such as those that a reference method
    was asked for where a student had walked into nonsense; null: keep all. Test and `valid` are never thinned."""

    energy_key: str = "REF_energy"
    """`info` key of the reference energy, eV per cell."""

    forces_key: str = "REF_forces"
    """Array of the reference forces, eV/Angstrom."""

    stress_key: str | None = None
    """`info` key of the reference stress, eV/Angstrom^3 (ASE's sign, 3x3 or Voigt); none: stress is not trained."""

    e0s: Literal["fitted", "isolated_atoms"] | dict[str, float] = "fitted"
    """Energy zeros of the elements: `fitted` by least squares on train, taken from `isolated_atoms`
    (one-atom frames in train), or given in eV as {Mo: -10.2, S: -4.1}."""

    ood: Ood | None = None
    """Reported apart as the split test_ood; the rest is test_id."""

    @model_validator(mode="after")
    def _keys_for_groups(self) -> Data:
        if self.valid_split != "random" and not self.split_keys:
            raise ValueError(f"valid_split {self.valid_split} needs split_keys, such as [start]")
        return self


class Tracking(Section):
    """Where MLflow keeps the runs."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking URI; a relative sqlite path is taken from the working directory."""

    experiment: str = "ipip-mace"
    """MLflow experiment."""

    enabled: bool = True
    """false: write the run folder only (`ipip-mace track` can mirror it later)."""

    register_model: bool = True
    """Register the final student under the recipe's name, for `mlflow.pyfunc.load_model("models:/NAME/1")`. A student
    that is registered already makes no new version."""


class Recipe(Section):
    """Everything a run needs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the run and of its folder `runs/<name>`."""

    seed: NonNegativeInt = 0
    """All randomness derives from it."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto takes a GPU where there is one."""

    threads: PositiveInt | None = 1
    """CPU threads of torch; null leaves the choice to torch. On the small graphs of a small MACE a second
    thread gains a third on an idle machine, and loses tenfold on a busy one, where threads wait for each
    other by spinning (docs/benchmarks.md)."""

    parallel: bool = True
    """Train the from-scratch baseline in a second process meanwhile, and members of a committee side by side, on a
    CPU with cores to spare. The results are the same, only sooner."""

    iterations: PositiveInt = 2
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
    """MD by the student; as `explore` where not given. The student is cheap, so it can walk further."""

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

    @property
    def backend(self) -> str:
        """Name of the student's backend."""
        return str(self.student.backend)  # type: ignore[attr-defined]

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
