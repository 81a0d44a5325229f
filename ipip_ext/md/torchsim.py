"""torch-sim as the engine of MD: its integrators, its evaluation of the model, its estimate of a GPU's memory.

Between two steps the stack has all of the state, so queue, guard, frames, restarts and exact resume are those of any
engine. Random numbers of a step are a function of who walks and of the step: nothing random outlives it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from torch_sim.autobatching import calculate_memory_scalers, estimate_max_memory_scaler
from torch_sim.constraints import FixAtoms
from torch_sim.integrators.md import MDState

from ipip_ext.md.integrators import Integrator
from ipip_ext.md.replicas import Replica, fixed_atoms
from ipip_ext.md.stacked import Stack
from ipip_ext.potentials.base import Array, HasTorchSim
from ipip_ext.potentials.cells import spacious
from ipip_ext.potentials.compute import reason
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.seeds import derive
from ipip_ext.units import EV_PER_A3_PER_GPA, FS, KB_EV_PER_K


class TorchSimEngine:
    """torch-sim's integrators (an `engines.Engine`). A batch is of like boundary conditions, as torch-sim has it."""

    def __init__(self, potential: HasTorchSim, replicas: Sequence[Replica], settings: Explore) -> None:
        self.replicas, self.settings = replicas, settings
        self.model = _Model(potential.torchsim_model(stress=settings.ensemble == "npt"))

    def room(self, walking: Sequence[Replica], waiting: Sequence[Replica]) -> int:
        """Return how many of `waiting` may join those `walking`: as many as a GPU's memory has room for."""
        alike = [each.start.pbc.tolist() for each in (*walking[:1], *waiting)][:1]
        fit = list(takewhile(lambda replica: [replica.start.pbc.tolist()] == alike, waiting))
        if self.model.device.type == "cpu":
            return min(len(fit), max(0, self.settings.max_batch_replicas - len(walking)))
        taken = np.cumsum([sum(self._memory[r.id] for r in walking), *(self._memory[r.id] for r in fit)])[1:]
        n_fit = int(np.count_nonzero(taken <= self._all_memory))
        return n_fit if walking else max(n_fit, min(len(fit), 1))  # one that is too large alone fails as it walks

    @cached_property
    def _memory(self) -> dict[str, float]:
        """What each replica takes of memory, in torch-sim's measure for this model."""
        scale = self.model.inner.memory_scales_with
        return {r.id: calculate_memory_scalers(_bare(r, self.model.inner), scale)[0] for r in self.replicas}

    @cached_property
    def _all_memory(self) -> float:
        """How much a batch may take, by trial evaluations of the smallest and the largest replica."""
        states = [_bare(replica, self.model.inner) for replica in self.replicas]
        enough = 2 * sum(len(replica.start) for replica in self.replicas)
        with contextlib.redirect_stdout(io.StringIO()):
            return float(
                estimate_max_memory_scaler(states, self.model.inner, list(self._memory.values()), max_atoms=enough)
            )

    def dynamics(self, stack: Stack) -> Integrator:
        """Return the integrator of the recipe's ensemble for all replicas of `stack`."""
        return _Dynamics(self.model, stack, self.settings)


class _Dynamics:
    """torch-sim's state of a stack, in double precision as the stack has it."""

    def __init__(self, model: _Model, stack: Stack, settings: Explore) -> None:
        self.model, self.stack, self.settings = model, stack, settings
        self.dt = settings.timestep_fs * FS
        self.seed = derive(stack.replicas[0].seed, *((w.replica.seed, w.attempt) for w in stack.walkers))
        state_class, more, self.move = _ENSEMBLES[settings.ensemble]
        self.state = state_class(**self._shared(), **more(self))
        starts = [replica.start for replica in stack.replicas]
        held = [o + i for start, o in zip(starts, stack.offsets, strict=True) for i in fixed_atoms(start)]
        if held:
            self.state.constraints = [FixAtoms(atom_idx=self.tensor(held))]
        self.state.rng = torch.Generator(device=self.state.device)

    def tensor(self, values: Any) -> torch.Tensor:
        """Return a copy of `values` on the model's device."""
        return torch.tensor(np.asarray(values), device=self.model.device)

    def _shared(self) -> dict[str, torch.Tensor]:
        stack = self.stack
        fields = {
            "positions": stack.atoms.positions,
            "momenta": stack.atoms.arrays["momenta"],
            "forces": stack.forces,
            "energy": stack.energies_eV,
            "masses": stack.masses[:, 0],
            "atomic_numbers": stack.atoms.numbers,
            "system_idx": np.repeat(np.arange(len(stack.counts)), stack.counts),
            "cell": [_columns(frame) for frame in stack.frames],
            "pbc": stack.frames[0].pbc,
        }
        return {name: self.tensor(values) for name, values in fields.items()}

    def heat(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the degrees of freedom of each walker that carry heat, as ASE's engine counts them for Bussi."""
        counts, free = self.stack.counts, self.stack.free
        return {"_system_extras": {"heat_dof": self.tensor(3.0 * free - 3 * ((counts == free) & (counts > 1)))}}

    def barostat(self) -> dict[str, torch.Tensor]:
        """Return the state of NPT: the logarithm of the cell's length in units of the start's, and its rate.

        torch-sim's `alpha` is a friction constant, so light atoms are damped faster than heavy ones: here the mean
        mass has the recipe's friction. Distributions don't depend on it.
        """
        stack, starts = self.stack, [replica.start for replica in self.stack.replicas]
        lengths = [np.log(f.get_volume() / s.get_volume()) / 3 for f, s in zip(stack.frames, starts, strict=True)]
        known = [w.barostat or (length, 0.0) for w, length in zip(stack.walkers, lengths, strict=True)]
        time = np.full(len(starts), self.settings.barostat_time_fs * FS)
        mean_masses = np.add.reduceat(stack.masses[:, 0], stack.offsets) / stack.counts
        fields = {
            "stress": stack.stresses,
            "reference_cell": [_columns(start) for start in starts],
            "cell_positions": [strain for strain, _ in known],
            "cell_velocities": [rate for _, rate in known],
            "alpha": self.settings.friction_per_fs / FS * mean_masses,
            "b_tau": time,
            "cell_alpha": np.zeros(len(starts)),  # follows the temperature, as `cell_masses` does
            "cell_masses": np.zeros(len(starts)),
        }
        return {name: self.tensor(values) for name, values in fields.items()}

    def step(self, _forces: Array) -> Array:
        """Move by one step; the stack has it all afterwards."""
        kT = self.tensor(self.stack.target_temperatures(self.settings.n_steps) * KB_EV_PER_K)
        self.state.rng.manual_seed(derive(self.seed, int(self.stack.md_steps[0])))
        self.state = self.move(self, kT)
        self._give_back()
        return self.stack.forces

    def _give_back(self) -> None:
        state, stack = self.state, self.stack
        parts = [state.positions, state.momenta, state.forces, state.energy]
        if stack.moves_cell:
            parts += [state.cell.mT, state.stress, state.cell_positions, state.cell_velocities]
        together = torch.cat([part.reshape(-1) for part in parts]).cpu().numpy()  # one download
        ends = np.cumsum([part.numel() for part in parts])[:-1]
        shaped = [a.reshape(p.shape) for a, p in zip(np.split(together, ends), parts, strict=True)]
        positions, momenta, forces, energies_eV, *cell_parts = shaped
        stack.receive(positions, momenta, forces, energies_eV, self.model.failures)
        if cell_parts:
            cells, stresses, strains, rates = cell_parts
            for frame, cell in zip(stack.frames, cells, strict=True):
                frame.cell[:] = cell
            stack.stresses = list(stresses)
            for walker, strain, rate in zip(stack.walkers, strains, rates, strict=True):
                walker.barostat = (float(strain), float(rate))


class _Bussi(MDState):  # type: ignore[misc]
    """Atoms whose velocities are rescaled together. heat_dof: degrees of freedom that carry heat, of each system."""

    def get_number_of_degrees_of_freedom(self) -> torch.Tensor:
        """Return what torch-sim's thermostat takes for the number of degrees of freedom."""
        degrees: torch.Tensor = self.heat_dof
        return degrees


def _langevin(it: _Dynamics, kT: torch.Tensor) -> Any:
    return ts.nvt_langevin_step(it.state, it.model, dt=it.dt, kT=kT, gamma=it.settings.friction_per_fs / FS)


def _nve(it: _Dynamics, _kT: torch.Tensor) -> Any:
    return ts.nve_step(it.state, it.model, dt=it.dt)


def _bussi(it: _Dynamics, kT: torch.Tensor) -> Any:
    return ts.nvt_vrescale_step(it.model, it.state, dt=it.dt, kT=kT, tau=FS / it.settings.friction_per_fs)


def _npt(it: _Dynamics, kT: torch.Tensor) -> Any:
    """Take a step of Langevin dynamics of atoms and volume.

    The equations are those of Gronbech-Jensen and Farago, J. Chem. Phys. 141, 194108 (2014), with the logarithm of the
    length as the volume's coordinate. Its measure asks for a force of 3 kT that torch-sim 0.6 leaves out; without it
    volumes are those of one atom less. A pressure lower by kT/V is that force.
    """
    state = it.state
    state.cell_alpha = (state.n_atoms_per_system + 1) * kT * state.b_tau  # damped within barostat_time_fs
    pressure = it.settings.pressure_GPa * EV_PER_A3_PER_GPA - kT / state.volume
    return ts.npt_langevin_isotropic_step(state, it.model, dt=it.dt, kT=kT, external_pressure=pressure)


def _nothing(_it: _Dynamics) -> dict[str, Any]:
    return {}


_ENSEMBLES: dict[
    str, tuple[Any, Callable[[_Dynamics], Mapping[str, Any]], Callable[[_Dynamics, torch.Tensor], Any]]
] = {
    "nvt_langevin": (MDState, _nothing, _langevin),
    "nve": (MDState, _nothing, _nve),
    "nvt_bussi": (_Bussi, _Dynamics.heat, _bussi),
    "npt": (ts.NPTLangevinIsotropicState, _Dynamics.barostat, _npt),
}
"""Ensemble -> torch-sim's class of state, its fields beyond the shared ones, and a step of it."""


class _Model:
    """A torch-sim model with double precision outside, of which a system that can't be evaluated costs itself alone.

    failures: why, by the system's index, of the last evaluation; its numbers are NaN.
    """

    dtype = torch.float64

    def __init__(self, inner: Any) -> None:
        self.inner, self.device = inner, inner.device
        self.failures: dict[int, str] = {}

    def __call__(self, state: Any) -> dict[str, torch.Tensor]:
        """Return energy, forces and, if the model has it, stress of all systems (called by torch-sim)."""
        self.failures = {}
        plain = ts.SimState(
            positions=_near_origin(state).to(self.inner.dtype), cell=state.cell.to(self.inner.dtype), pbc=state.pbc,
            masses=state.masses, atomic_numbers=state.atomic_numbers, system_idx=state.system_idx,
        )  # fmt: skip
        return {key: value.to(self.dtype) for key, value in self._evaluate(plain, 0).items()}

    def _evaluate(self, state: Any, first: int) -> dict[str, torch.Tensor]:
        """Evaluate all systems at once; if that fails, one half after the other. first: index of the first system."""
        try:
            found: dict[str, torch.Tensor] = self.inner(state)
            return found
        except Exception as error:  # noqa: BLE001 - out of memory, say; whatever it is must cost one system, no more
            n_systems = state.n_systems
            if n_systems == 1:
                self.failures[first] = reason(error)
                return self._no_numbers(state)
        middle = n_systems // 2
        halves = [list(range(middle)), list(range(middle, n_systems))]
        outputs = [self._evaluate(state[half], first + half[0]) for half in halves]
        return {key: torch.cat([output[key] for output in outputs]) for key in outputs[0]}

    def _no_numbers(self, state: Any) -> dict[str, torch.Tensor]:
        numbers = {"energy": state.cell[:, 0, 0], "forces": state.positions}
        if self.inner.compute_stress:
            numbers["stress"] = state.cell
        return {key: torch.full_like(values, torch.nan) for key, values in numbers.items()}


def _columns(atoms: Atoms) -> Array:
    """Return cell vectors as columns; where they span no volume, some that do, since torch-sim inverts the matrix."""
    return spacious(atoms.cell.array, atoms.pbc).T


def _near_origin(state: Any) -> torch.Tensor:
    """Return positions whose steps in single precision are small: torch-sim wraps along periodic directions alone."""
    if bool(state.pbc.all()):
        wrapped: torch.Tensor = state.positions
        return wrapped
    sums = state.positions.new_zeros(state.n_systems, 3).index_add(0, state.system_idx, state.positions)
    moved: torch.Tensor = state.positions - (sums / state.n_atoms_per_system[:, None])[state.system_idx]
    return moved


def _bare(replica: Replica, model: Any) -> Any:
    """Return torch-sim's state of a replica's start, as `model` evaluates it."""
    start = replica.start
    return ts.SimState(
        positions=torch.tensor(start.positions, dtype=model.dtype, device=model.device),
        masses=torch.tensor(start.get_masses(), dtype=model.dtype, device=model.device),
        cell=torch.tensor(_columns(start), dtype=model.dtype, device=model.device)[None],
        pbc=torch.tensor(start.pbc, device=model.device),
        atomic_numbers=torch.tensor(start.numbers, device=model.device),
    )
