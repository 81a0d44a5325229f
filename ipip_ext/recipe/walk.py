"""Recipe sections of MD: how far to walk, from what starts, and when to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ipip_ext.recipe.numbers import (
    Count,
    Every,
    Factor,
    ForceLimit_eV_per_A,
    Friction_per_fs,
    Replicas,
    Share,
    StartFactor,
    Steps,
    Temperature,
    Timestep_fs,
)
from ipip_ext.recipe.schema import Section


class Guard(Section):
    """When a replica is stopped. The frames from before are kept."""

    check_every: Every = 5
    """MD steps between checks of distances, temperature and energy; forces are looked at after every step."""

    max_force_eV_per_A: ForceLimit_eV_per_A = 60.0
    """Largest force on one atom."""

    min_distance_factor: Annotated[float, Field(gt=0, le=10)] = 0.5
    """Closest approach of two atoms in units of the sum of their covalent radii."""

    max_temperature_factor: Factor = 5.0
    """Largest kinetic temperature in units of the hotter of thermostat and start."""

    max_energy_rise_eV_per_atom: Factor = 5.0
    """Largest change of potential energy per atom since the start, either way."""

    max_volume_factor: Annotated[float, Field(gt=1, le=1e15)] = 2.0
    """Largest change of the cell's volume since the start, either way, where the ensemble moves the cell (`npt`)."""

    keep_before: Annotated[int, Field(ge=0, le=1000)] = 1
    """Checked configurations right before a stop that are kept as frames, whatever `frame_every` says, with
    `before_stop` and the reason in their `info`. They show where the model's knowledge ends, so they are worth a
    label. The start itself is none of them."""

    restarts: Annotated[int, Field(ge=0, le=1000)] = 0
    """How often a stopped replica begins again, from the last configuration that was found sane and with new
    velocities and a new seed. Each stop is written down all the same."""


class Explore(Section):
    """MD that walks to new frames."""

    starts: Path
    """Structures where MD begins."""

    ensemble: Literal["nvt_langevin", "nvt_bussi", "nve", "npt"] = "nvt_langevin"
    """Langevin and NVE run stacked in one batch; Bussi (stochastic velocity rescaling) and NPT (Langevin for atoms and
    volume, the cell keeps its shape) one replica at a time. NPT needs a potential with stress, and starts that are
    periodic in all directions, without vacuum and without fixed atoms."""

    engine: Literal["ase", "torchsim"] = "ase"
    """Whose integrators take the steps. `torchsim` is for students and for MACE teachers, and needs the extra
    `torchsim` and Python 3.12 or newer. It samples the same ensembles with other random numbers, Bussi and NPT in
    batches too, and on a GPU in batches of what its memory holds, whatever `max_batch_replicas` says."""

    temperatures_K: Annotated[tuple[Temperature, ...], Field(min_length=1, max_length=1000)] = (300.0, 900.0)
    """Each start is run at each temperature. Hotter than the use you have in mind covers more. A pair such as
    [300, 1500] is a ramp from one to the other over the walk: [[300, 1500]] is one ramp, [300, 1500] are two
    temperatures."""

    pressure_GPa: Annotated[float, Field(ge=-1000, le=1e5)] = 0.0
    """Pressure that NPT keeps, GPa."""

    barostat_time_fs: Annotated[float, Field(gt=0, le=1e9)] = 1000.0
    """Time constant of the volume in NPT, fs: it relaxes and is damped about that fast."""

    initial_temperature_factor: StartFactor = 1.5
    """Velocities start at this times the temperature; about half of it turns into potential energy."""

    rattle_A: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Standard deviation of random displacements of a replica's start, each component, Angstrom. With `replicas` above
    1 the first of each start and temperature begins undisturbed."""

    strain: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    """Standard deviation of a random symmetric strain of a replica's start, along its periodic directions: where the
    cell holds vacuum it is left alone. For the same replicas as `rattle_A`."""

    kick_fraction: Share = 0.0
    """Share of atoms that are kicked to another place before a replica starts: adsorbates leave their sites, vacancies
    form. MD alone seldom crosses such barriers in picoseconds. 0.1 to 0.2 leaves most of the structure whole."""

    kick_A: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Longest kick, Angstrom."""

    timestep_fs: Timestep_fs = 1.0
    """MD time step, fs. 1 for heavy atoms, 0.5 with hydrogen."""

    n_steps: Steps = 1000
    """MD steps of a replica. 0: no MD; the rattled, strained or kicked starts themselves are the frames."""

    frame_every: Every = 20
    """MD steps between kept frames; closer frames are too alike to teach anything new."""

    replicas: Replicas = 1
    """Replicas for each start and temperature, with different velocities."""

    friction_per_fs: Friction_per_fs = 0.01
    """Langevin friction, 1/fs (0.01 is 10/ps). For Bussi its inverse is the time constant."""

    max_batch_replicas: Count = 32
    """Replicas evaluated together; one that ends makes room for the next. More is faster until memory limits."""

    max_trajectory_GB: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Largest size of the frames kept of all replicas, GB; null: what the disk has room for. A walk that would need
    more is refused before it begins."""

    guard: Guard = Guard()
    """When a replica is stopped."""

    @property
    def perturbs(self) -> bool:
        """Whether starts are rattled, strained or kicked."""
        return self.rattle_A > 0 or self.strain > 0 or self.kick_fraction > 0

    @property
    def frames_per_replica(self) -> int:
        """Frames that a replica which is never stopped gives."""
        return self.n_steps // self.frame_every if self.n_steps else 1

    def disturbs(self, copy: int) -> bool:
        """Whether the start of the `copy`-th replica is rattled, strained or kicked."""
        return self.perturbs and (copy > 0 or self.replicas == 1 or self.n_steps == 0)

    @model_validator(mode="after")
    def _some_frames(self) -> Explore:
        if self.n_steps == 0 and not self.perturbs:
            raise ValueError("n_steps 0 keeps the perturbed starts, so it needs rattle_A, strain or kick_fraction")
        if self.frame_every > self.n_steps > 0:
            raise ValueError("frame_every is larger than n_steps, so no frame would be kept")
        return self

    @model_validator(mode="after")
    def _ramps_need_a_thermostat(self) -> Explore:
        if self.ensemble == "nve" and any(isinstance(value, tuple) for value in self.temperatures_K):
            raise ValueError("ensemble nve has no thermostat that could follow a ramp; give temperatures_K numbers")
        return self
