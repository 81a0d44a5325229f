"""Many steps of the same frames: all that does not move stays on the device between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ipip_ext.backends.capture import TRIES
from ipip_ext.backends.mace.evaluator import Evaluator
from ipip_ext.backends.mace.graphs import Batch, input_tensors
from ipip_ext.backends.mace.replay import MOST_ATOMS, PLAIN_STEPS, Places, Recording
from ipip_ext.backends.mace.verlet import SKIN_A, VerletLists
from ipip_ext.errors import DataError
from ipip_ext.potentials.base import Array
from ipip_ext.potentials.cells import origins
from ipip_ext.potentials.faults import cell_fault, position_fault


class MaceSession:
    """Frames of fixed species and cells; a step costs one upload of positions and one download of what came out.

    A frame that can't be computed stands in its batch as atoms without neighbours, and its numbers are NaN.
    """

    def __init__(self, potential: Evaluator, frames: Sequence[Atoms], skin_A: float = SKIN_A) -> None:
        self.potential = potential
        self.counts = np.array([len(frame) for frame in frames])
        self.offsets = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(int)
        self.symbols = [frame.get_chemical_symbols() for frame in frames]
        self.pbc = np.array([frame.pbc for frame in frames])
        known = {index: _known(potential, frame) for index, frame in enumerate(frames)}
        self.unknown = {index: why for index, (_, why) in known.items() if why is not None}
        inputs = [inputs for inputs, _ in known.values()]
        self.finite = np.zeros((int(self.counts.sum()), 3))  # the last positions of each frame that were
        self.blocks = [
            _Block(potential, frames[part], inputs[part], part, skin_A)
            for part in (slice(r[0], r[-1] + 1) for r in potential.parts(self.counts.tolist()))
        ]

    def compute(self, positions: Array) -> tuple[Array, Array, dict[int, str]]:
        """Return energies, forces, and why a frame failed (see `ipip_ext.potential.Session`)."""
        broken = ~np.isfinite(np.add.reduceat(positions.sum(axis=1), self.offsets))
        failures = {int(index): self._fault(positions, int(index)) for index in np.flatnonzero(broken)} | self.unknown
        self.finite = np.where(np.repeat(broken, self.counts)[:, None], self.finite, positions)
        skip = np.isin(np.arange(len(self.counts)), list(failures))
        rows = np.split(self.finite, self.offsets[[block.part.start for block in self.blocks[1:]]])
        for block, own in zip(self.blocks, rows, strict=True):
            found = block.renew(own, skip[block.part])
            failures |= {block.part.start + index: why for index, why in found.items()}
        energies, forces = self._evaluate([len(own) for own in rows])
        lost = list(failures)
        energies[lost] = np.nan
        forces[np.isin(np.repeat(np.arange(len(self.counts)), self.counts), lost)] = np.nan
        return energies, forces, failures

    def _fault(self, positions: Array, index: int) -> str:
        rows = slice(self.offsets[index], self.offsets[index] + self.counts[index])
        return position_fault(positions[rows], self.symbols[index]) or "positions are not finite"

    def _evaluate(self, sizes: list[int]) -> tuple[Array, Array]:
        means = np.add.reduceat(self.finite, self.offsets) / self.counts[:, None]
        near = self.finite - np.repeat(origins(means, self.pbc), self.counts, axis=0)
        on_device = torch.as_tensor(near, dtype=self.potential.dtype).to(self.potential.device)
        parts = zip(self.blocks, torch.split(on_device, sizes), strict=True)
        outputs = [block.evaluate(positions) for block, positions in parts]
        energies, forces, n_near = zip(*outputs, strict=True)
        numbers = torch.cat([*energies, *(f.reshape(-1) for f in forces), *n_near]).cpu().double().numpy()
        ends = np.cumsum([len(self.counts), self.finite.size])
        told = iter(numbers[ends[1] :])
        full = [block.is_full(int(next(told))) for block, n in zip(self.blocks, n_near, strict=True) if len(n)]
        if any(full):  # those are not recorded any more
            return self._evaluate(sizes)
        return numbers[: ends[0]], numbers[ends[0] : ends[1]].reshape(-1, 3)


class _Block:
    """Frames that are evaluated as one batch. part: which of the session's they are."""

    def __init__(
        self, potential: Evaluator, frames: Sequence[Atoms], inputs: Sequence[Mapping[str, float]], part: slice,
        skin_A: float,
    ) -> None:  # fmt: skip
        self.potential = potential
        self.part = part
        self.lists = VerletLists(frames, potential.r_max_A, skin_A)
        self.fixed = _fixed(potential, frames, inputs)
        self.recording: Recording | None = None
        self.plain_steps = self.failures = 0
        self.may_record = potential.may_record and len(self.lists.built) <= MOST_ATOMS
        self.nothing = torch.zeros(0, dtype=potential.dtype, device=potential.device)
        self._upload()

    def renew(self, positions: Array, skip: NDArray[np.bool_]) -> dict[int, str]:
        """Bring the neighbour lists up to `positions`; return why a frame has none."""
        changed, failures = self.lists.update(positions, skip)
        if changed:
            self._upload()
        return failures

    def _upload(self) -> None:
        edges = self.lists.edges
        starts = np.repeat(self.lists.offsets, [len(each.shifts) for each in edges])
        pairs = np.concatenate([each.pairs for each in edges], axis=1) + starts
        shifts = np.concatenate([each.shifts for each in edges])
        self.pairs = torch.from_numpy(pairs).to(self.potential.device)
        self.shifts = torch.from_numpy(shifts).to(self.potential.device, self.potential.dtype)
        if self.recording is not None and not self.recording.places.put(self.pairs, self.shifts):
            self.recording = None

    def evaluate(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return energies (n_frames,) and forces (n_rows, 3) at `positions`, on the device.

        The third is how many pairs are within the cut-off, (1,), which `is_full` asks for; (0,) if it need not.
        """
        if self.recording is not None:
            return self.recording(positions)
        vectors = positions.index_select(0, self.pairs[1]) - positions.index_select(0, self.pairs[0]) + self.shifts
        # pairs in the skin add exact zeros to MACE's sums; without them a small cell is a third cheaper
        near = torch.nonzero((vectors * vectors).sum(dim=1) < self.potential.r_max_A**2)[:, 0]
        moving = {
            "positions": positions,
            "edge_index": self.pairs.index_select(1, near),
            "shifts": self.shifts.index_select(0, near),
        }
        output = self.potential.forward({**self.fixed, **moving}, stress=False)
        self.plain_steps += 1
        if self.may_record and self.plain_steps % PLAIN_STEPS == 0:
            self._record(positions, len(near))
        return output["energy"].detach(), output["forces"].detach(), self.nothing

    def is_full(self, n_near: int) -> bool:
        """Tell whether a recording had too little room for so many pairs; then it is no more."""
        if self.recording is None or n_near <= self.recording.room:
            return False
        self.recording = None
        return True

    def _record(self, positions: torch.Tensor, n_near: int) -> None:
        places = Places(self.pairs, self.shifts, self.potential.r_max_A)
        try:
            evaluate = partial(self.potential.forward, stress=False)
            self.recording = Recording(evaluate, self.fixed, places, positions, n_near)
        except Exception:  # noqa: BLE001 - too little memory, say; if the device has failed the next step does
            self.failures += 1
            self.may_record = self.failures < TRIES


def _known(potential: Evaluator, frame: Atoms) -> tuple[Mapping[str, float], str | None]:
    """Return a frame's inputs beyond atoms, and why the potential can't evaluate it, if it can't."""
    try:
        potential.require_known(frame)
        return potential.inputs(frame), cell_fault(frame)
    except (DataError, ValueError) as error:
        return dict.fromkeys(potential.specs, 0.0), f"{type(error).__name__}: {error}"


def _fixed(potential: Evaluator, frames: Sequence[Atoms], inputs: Sequence[Mapping[str, float]]) -> Batch:
    """Return the part of a batch that no step changes."""
    species = torch.tensor([potential.index.get(int(z), 0) for frame in frames for z in frame.numbers])
    sizes = torch.tensor([len(frame) for frame in frames])
    fixed = {
        "node_attrs": torch.nn.functional.one_hot(species, len(potential.index)).to(potential.dtype),
        "cell": torch.as_tensor(np.concatenate([frame.cell.array for frame in frames])).to(potential.dtype),
        "batch": torch.repeat_interleave(torch.arange(len(frames)), sizes),
        "ptr": torch.cat([torch.zeros(1, dtype=torch.long), torch.cumsum(sizes, 0)]),
        "head": torch.zeros(len(frames), dtype=torch.long),
        **input_tensors(inputs, potential.dtype),
    }
    return {key: value.to(potential.device) for key, value in fixed.items()}
