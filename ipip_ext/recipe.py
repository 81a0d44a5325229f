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
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from ipip_ext.backends import registry
from ipip_ext.recipe_baselines import (
    Baseline,
    CalculatorBaseline,
    Conventional,
    Distilled,
    NoForget,
    Scratch,
    TeacherBaseline,
)
from ipip_ext.recipe_labels import Asking, Committee, Correction, Label, Reference, Select
from ipip_ext.recipe_training import Finetune, Fit, Forget, Pretrain, Share
from ipip_ext.schema import Section

__all__ = [
    "Asking", "Baseline", "CalculatorBaseline", "Committee", "Conventional", "Correction", "Data", "Distilled",
    "Evaluate", "Explore", "Finetune", "Fit", "Forget", "Guard", "Label", "NoForget", "Ood", "Pretrain", "Recipe",
    "Reference", "Scratch", "Section", "Select", "Stability", "TeacherBaseline", "Tracking",
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


class Guard(Section):
    """When a replica is stopped. The frames from before are kept."""

    check_every: PositiveInt = 5
    """MD steps between checks of distances, temperature and energy; forces are looked at after every step."""

    max_force_eV_per_A: PositiveFloat = 60.0
    """Largest force on one atom."""

    min_distance_factor: PositiveFloat = 0.5
    """Closest approach of two atoms in units of the sum of their covalent radii."""

    max_temperature_factor: PositiveFloat = 5.0
    """Largest kinetic temperature in units of the hotter of thermostat and start."""

    max_energy_rise_eV_per_atom: PositiveFloat = 5.0
    """Largest change of potential energy per atom since the start, either way."""


class Explore(Section):
    """MD that walks to new frames."""

    starts: Path
    """Structures where MD begins."""

    ensemble: Literal["nvt_langevin", "nvt_bussi", "nve"] = "nvt_langevin"
    """Langevin and NVE run stacked in one batch; Bussi (stochastic velocity rescaling) one replica at a time."""

    temperatures_K: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (300.0, 900.0)
    """Each start is run at each temperature. Hotter than the use you have in mind covers more."""

    initial_temperature_factor: PositiveFloat = 1.5
    """Velocities start at this times the temperature; about half of it turns into potential energy."""

    rattle_A: NonNegativeFloat = 0.0
    """Standard deviation of random displacements of a replica's start, each component, Angstrom. With `replicas` above
    1 the first of each start and temperature begins undisturbed."""

    kick_fraction: Share = 0.0
    """Share of atoms that are kicked to another place before a replica starts: adsorbates leave their sites, vacancies
    form. MD alone seldom crosses such barriers in picoseconds. 0.1 to 0.2 leaves most of the structure whole."""

    kick_A: PositiveFloat = 2.0
    """Longest kick, Angstrom."""

    timestep_fs: PositiveFloat = 1.0
    """MD time step, fs. 1 for heavy atoms, 0.5 with hydrogen."""

    n_steps: PositiveInt = 1000
    """MD steps of a replica."""

    frame_every: PositiveInt = 20
    """MD steps between kept frames; closer frames are too alike to teach anything new."""

    replicas: PositiveInt = 1
    """Replicas for each start and temperature, with different velocities."""

    friction_per_fs: PositiveFloat = 0.01
    """Langevin friction, 1/fs (0.01 is 10/ps). For Bussi its inverse is the time constant."""

    max_batch_replicas: PositiveInt = 32
    """Replicas evaluated together. More is faster until memory or the last replica limits."""

    guard: Guard = Guard()
    """When a replica is stopped."""

    def disturbs(self, copy: int) -> bool:
        """Whether the start of the `copy`-th replica is rattled or kicked."""
        return (self.rattle_A > 0 or self.kick_fraction > 0) and (copy > 0 or self.replicas == 1)

    @model_validator(mode="after")
    def _some_frames(self) -> Explore:
        if self.frame_every > self.n_steps:
            raise ValueError("frame_every is larger than n_steps, so no frame would be kept")
        return self


class Stability(Section):
    """Langevin MD of every compared model, from the same starts with the same random numbers."""

    starts: Path | None = None
    """Structures where MD begins; null: those of `explore`."""

    temperatures_K: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (300.0, 900.0, 1500.0)
    """Each start is run at each temperature. Models that agree on test frames differ first at the highest."""

    time_ps: PositiveFloat = 5.0
    """Length of each run, ps."""

    timestep_fs: PositiveFloat = 1.0
    """MD time step, fs."""

    replicas: PositiveInt = 1
    """Runs for each start and temperature, with different velocities."""

    friction_per_fs: PositiveFloat = 0.01
    """Langevin friction, 1/fs."""

    initial_temperature_factor: PositiveFloat = 1.0
    """Velocities start at this times the temperature."""

    guard: Guard = Guard()
    """A run that it stops has not ended sanely; nor has one in which the model fails."""

    every_iteration: bool = False
    """true: the student of each iteration too, not only the one that is exported."""

    @model_validator(mode="after")
    def _some_steps(self) -> Stability:
        if round(self.time_ps * 1000 / self.timestep_fs) < 1:
            raise ValueError("time_ps is shorter than timestep_fs, so no step would be taken")
        return self


class Evaluate(Section):
    """How models are measured."""

    batch_size: PositiveInt = 32
    """Frames evaluated at once."""

    speed_start: NonNegativeInt | str = 0
    """Start whose supercell is used to time an MD step: its index or its `name`."""

    speed_supercell: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 3, 1)
    """Repeats along the cell vectors; about 100 atoms tell more than a small cell."""

    speed_steps: PositiveInt = 20
    """MD steps a model is timed for, models in turn; the median is reported."""

    stability: Stability | None = None
    """MD that tells whether each model stays physical, which errors on test frames do not; null: none.
    `ipip-mace check` estimates its cost."""


class Tracking(Section):
    """Where MLflow keeps the runs."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking URI; a relative sqlite path is taken from the working directory."""

    experiment: str = "ipip-mace"
    """MLflow experiment."""

    enabled: bool = True
    """false: write the run folder only (`ipip-mace track` can mirror it later)."""


class Recipe(Section):
    """Everything a run needs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
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
    """Train the from-scratch baseline in a second process meanwhile, on a CPU with a core to spare.
    The results are the same, only sooner."""

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

    student: SerializeAsAny[Section] = Field(default_factory=registry.config_class("mace"), validate_default=True)
    """The small model; its keys depend on `backend`."""

    explore: Explore
    """MD by the teacher."""

    correct: Correction = Correction()
    """Correction of the teacher's labels. The one fitted at the start is kept, also where `label.reference` adds
    training frames later."""

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
        return self.correct.form != "none"

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

    @field_validator("student", mode="before")
    @classmethod
    def _student_of_backend(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return registry.config_class(str(value.get("backend", "mace"))).model_validate(value)
        return value
