"""Recipe sections of how models are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictBool, field_validator, model_validator

from ipip_ext.recipe.numbers import (
    MOST_STEPS,
    Count,
    Friction_per_fs,
    Replicas,
    SkippedTime_ps,
    StartFactor,
    Steps,
    Temperature_K,
    Time_ps,
    Timestep_fs,
)
from ipip_ext.recipe.schema import Section
from ipip_ext.recipe.walk import Guard

Repeat = Annotated[int, Field(gt=0, le=100)]
"""Of a cell along a vector."""

_Strain = Annotated[float, Field(gt=-0.5, le=1)]
_MOST_CELLS = 10_000


def _some_steps(time_ps: float, timestep_fs: float) -> None:
    n_steps = round(time_ps * 1000 / timestep_fs)
    if n_steps < 1:
        raise ValueError("time_ps is shorter than timestep_fs, so no step would be taken")
    if n_steps > MOST_STEPS:
        raise ValueError(f"time_ps is {n_steps} steps of timestep_fs; at most {MOST_STEPS} are taken")


class Stability(Section):
    """Langevin MD of every compared model, from the same starts with the same random numbers."""

    starts: Path | None = None
    """Structures where MD begins; null: those of `explore`."""

    temperatures_K: Annotated[tuple[Temperature_K, ...], Field(min_length=1, max_length=1000)] = (300.0, 900.0, 1500.0)
    """Each start is run at each temperature. Models that agree on test frames differ first at the highest."""

    time_ps: Time_ps = 5.0
    """Length of each run, ps."""

    timestep_fs: Timestep_fs = 1.0
    """MD time step, fs."""

    replicas: Replicas = 1
    """Runs for each start and temperature, with different velocities."""

    friction_per_fs: Friction_per_fs = 0.01
    """Langevin friction, 1/fs."""

    initial_temperature_factor: StartFactor = 1.0
    """Velocities start at this times the temperature."""

    guard: Guard = Guard()
    """A run that it stops has not ended sanely; nor has one in which the model fails."""

    every_iteration: StrictBool = False
    """true: the student of each iteration too, not only the one that is exported."""

    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the models that walk: `ipip` and those of baselines; null: all. A calculator that takes frames one by
    one may cost more than all else."""

    @model_validator(mode="after")
    def _some_steps(self) -> Stability:
        _some_steps(self.time_ps, self.timestep_fs)
        if self.guard.restarts:
            raise ValueError("guard.restarts must be 0: a run that begins again tells nothing about stability")
        return self


class Properties(Section):
    """What each compared model says of properties: energy conservation, structure, dynamics, elasticity."""

    starts: Path | None = None
    """Structures that walk and are strained; null: those of `explore`. With `trajectory` its first frame walks."""

    temperature_K: Temperature_K = 300.0
    """Velocities are drawn so that about this temperature is left once half of it is potential energy."""

    time_ps: Time_ps = 2.0
    """Length of each NVE walk, ps."""

    timestep_fs: Timestep_fs = 1.0
    """MD time step, fs. Energy drift depends on it."""

    skip_ps: SkippedTime_ps = 0.5
    """Start of each walk that RDF and VDOS leave out, ps."""

    rdf_max_A: Annotated[float, Field(gt=0, le=30)] = 6.0
    """Longest distance of the radial distribution function; it may exceed the cell."""

    strains: Annotated[tuple[_Strain, ...], Field(min_length=2, max_length=1000)] = (
        -0.04,
        -0.02,
        0.0,
        0.02,
        0.04,
    )
    """Uniform strains of the periodic directions of each start, atoms at the same places of the cell. A direction in
    which the cell holds a gap of vacuum is not strained. 0 must be among them: energies are relative to it."""

    strained: Path | None = None
    """Labelled frames under strain, each with `strain` and `start` in its info, such as DFT's: every model is
    evaluated on these instead, and compared with their energies; null: with the teacher's curve."""

    trajectory: Path | None = None
    """Trajectory of one system by the reference method, such as ab initio MD, which RDF and VDOS are compared with;
    null: with the teacher's walk from the same starts."""

    trajectory_step_fs: Annotated[float, Field(gt=0, le=5)] | None = None
    """Time between the frames of `trajectory`, fs, from whose displacements velocities are taken. null: RDF alone is
    compared with it, which is all that frames farther apart than 5 fs can tell."""

    trajectory_skip_ps: SkippedTime_ps = 0.0
    """Start of `trajectory` that is left out, ps; needs `trajectory_step_fs`."""

    guard: Guard = Guard()
    """When a walk is stopped; what it walked until then counts."""

    @field_validator("strains")
    @classmethod
    def _zero_among_them(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if 0.0 not in value or len(set(value)) < len(value) or min(value) <= -0.5:
            raise ValueError("strains must differ, be above -0.5, and hold 0, such as [-0.02, 0, 0.02]")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _enough_steps(self) -> Properties:
        _some_steps(self.time_ps, self.timestep_fs)
        if (self.time_ps - self.skip_ps) * 1000 / self.timestep_fs < 20:
            raise ValueError("time_ps must be at least 20 steps of timestep_fs longer than skip_ps")
        if self.trajectory_step_fs is not None and self.trajectory is None:
            raise ValueError("trajectory_step_fs belongs to trajectory; name one")
        if self.trajectory_skip_ps and self.trajectory_step_fs is None:
            raise ValueError("trajectory_skip_ps needs trajectory_step_fs, the time between frames")
        if self.guard.restarts:
            raise ValueError("guard.restarts must be 0: a walk that begins again conserves no energy")
        return self


class Evaluate(Section):
    """How models are measured."""

    batch_size: Count = 32
    """Frames evaluated at once."""

    speed_start: Steps | str = 0
    """Start whose supercell is used to time an MD step: its index or its `name`."""

    speed_supercell: tuple[Repeat, Repeat, Repeat] | None = None
    """Repeats along the cell vectors, which count as 1 along what is not periodic; null: those that make about 100
    atoms, which tell more than a small cell. A molecule is timed as it is."""

    speed_supercells: Annotated[tuple[tuple[Repeat, Repeat, Repeat], ...], Field(max_length=20)] | None = None
    """Other sizes that are timed beside it, as repeats; null: the start itself, and `speed_supercell` doubled along
    its first and most repeated periodic cell vector. [] times `speed_supercell` alone."""

    speed_memory: StrictBool = False
    """Measure the peak memory of a model on a CPU too, in a fresh process for each, which costs about 10 s a model.
    On a GPU it is always measured."""

    speed_steps: Count = 20
    """MD steps a model is timed for, models in turn; the median is reported."""

    stability: Stability | None = None
    """MD that tells whether each model stays physical, which errors on test frames do not; null: none.
    `ipip-mace check` estimates its cost."""

    properties: Properties | None = None
    """Properties from each model's own NVE MD and strained cells: energy drift, RDF, VDOS, energy over strain; null:
    none. `ipip-mace check` estimates its cost."""

    @model_validator(mode="after")
    def _cells_that_fit(self) -> Evaluate:
        main = () if self.speed_supercell is None else (self.speed_supercell,)
        for key, sizes in (("speed_supercell", main), ("speed_supercells", self.speed_supercells)):
            if (n_cells := max((a * b * c for a, b, c in sizes or ()), default=0)) > _MOST_CELLS:
                raise ValueError(f"{key} holds {n_cells} cells; at most {_MOST_CELLS} are timed")
        return self
