"""Ensembles by torch-sim: a recipe's name -> its integrator, and the state that it moves.

Between two steps the stack has all of the state, so queue, guard, frames, restarts and exact resume are those of any
engine. Random numbers of a step are a function of who walks and of the step: nothing random outlives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch_sim as ts
from torch_sim.constraints import FixAtoms
from torch_sim.integrators.md import MDState

from ipip_ext.md.replicas import fixed_atoms
from ipip_ext.md.stacked import Stack
from ipip_ext.md.torchsim.model import Model, columns
from ipip_ext.potentials.base import Array
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.seeds import derive
from ipip_ext.units import EV_PER_A3_PER_GPA, FS, KB_EV_PER_K


class Dynamics:
    """torch-sim's state of a stack, in double precision as the stack has it."""

    def __init__(self, model: Model, stack: Stack, settings: Explore) -> None:
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
            "cell": [columns(frame) for frame in stack.frames],
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
            "reference_cell": [columns(start) for start in starts],
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


def _langevin(it: Dynamics, kT: torch.Tensor) -> Any:
    return ts.nvt_langevin_step(it.state, it.model, dt=it.dt, kT=kT, gamma=it.settings.friction_per_fs / FS)


def _nve(it: Dynamics, _kT: torch.Tensor) -> Any:
    return ts.nve_step(it.state, it.model, dt=it.dt)


def _bussi(it: Dynamics, kT: torch.Tensor) -> Any:
    return ts.nvt_vrescale_step(it.model, it.state, dt=it.dt, kT=kT, tau=FS / it.settings.friction_per_fs)


def _npt(it: Dynamics, kT: torch.Tensor) -> Any:
    """Take a step of Langevin dynamics of atoms and volume.

    The equations are those of Gronbech-Jensen and Farago, J. Chem. Phys. 141, 194108 (2014), with the logarithm of the
    length as the volume's coordinate. Its measure asks for a force of 3 kT that torch-sim 0.6 leaves out; without it
    volumes are those of one atom less. A pressure lower by kT/V is that force.
    """
    state = it.state
    state.cell_alpha = (state.n_atoms_per_system + 1) * kT * state.b_tau  # damped within barostat_time_fs
    pressure = it.settings.pressure_GPa * EV_PER_A3_PER_GPA - kT / state.volume
    return ts.npt_langevin_isotropic_step(state, it.model, dt=it.dt, kT=kT, external_pressure=pressure)


def _nothing(_it: Dynamics) -> dict[str, Any]:
    return {}


_ENSEMBLES: dict[str, tuple[Any, Callable[[Dynamics], Mapping[str, Any]], Callable[[Dynamics, torch.Tensor], Any]]] = {
    "nvt_langevin": (MDState, _nothing, _langevin),
    "nve": (MDState, _nothing, _nve),
    "nvt_bussi": (_Bussi, Dynamics.heat, _bussi),
    "npt": (ts.NPTLangevinIsotropicState, Dynamics.barostat, _npt),
}
"""Ensemble -> torch-sim's class of state, its fields beyond the shared ones, and a step of it."""
