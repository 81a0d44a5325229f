"""A training step's loss and gradients, recorded on a GPU: the same work for every batch, of one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch.nn.functional import pad

from ipip_ext.backends.capture import TRIES, can_record, capture
from ipip_ext.backends.loss import Labels, huber_loss
from ipip_ext.recipe.training import Fit

MOST_ATOMS = 5_000
"""Atoms of a batch that is worth recording: with more of them the kernels take longer than their launching."""

PLAIN_STEPS = 10
"""Steps before one is recorded, which takes as long as some ten of them, and before it is tried again."""


@dataclass(frozen=True)
class Room:
    """Frames, atoms and edges that a batch is filled up to."""

    frames: int
    atoms: int
    edges: int


@runtime_checkable
class Recordable(Protocol):
    """A network that takes batches of one shape (optional)."""

    device: str

    def size(self, graph: Any) -> tuple[int, int]:
        """Return how many atoms and edges a graph has."""
        ...

    def filled(self, graphs: Sequence[Any], room: Room) -> Mapping[str, torch.Tensor]:
        """Return `graphs` as a batch of `room`'s shape on the CPU; the frames behind theirs are none of theirs."""
        ...

    def evaluate_filled(self, batch: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Return energies and forces of such a batch on the device, to be differentiated by the parameters."""
        ...


def room_for(network: Recordable, fresh: Sequence[Any], n_fresh: int, replay: Sequence[Any], n_replay: int) -> Room:
    """Return the room that any batch fits into, of so many graphs of the ones and the others."""
    sizes = [[network.size(graph) for graph in graphs] for graphs in (fresh, replay)]
    counts = [min(n_fresh, len(fresh)), min(n_replay, len(replay))]
    most = [
        sum(sum(sorted((size[axis] for size in some), reverse=True)[:n]) for some, n in zip(sizes, counts, strict=True))
        for axis in (0, 1)
    ]
    return Room(sum(counts) + 1, most[0] + 1, most[1])


class RecordedStep:
    """What a training step computes before its optimiser's turn.

    parameters: those that learn; their gradients are left where an optimiser looks for them.
    why_not: what was said when it could not be recorded.
    """

    def __init__(
        self, network: Recordable, settings: Fit, parameters: Sequence[torch.nn.Parameter], room: Room
    ) -> None:
        self.network, self.settings, self.parameters, self.room = network, settings, list(parameters), room
        self.device = torch.device(network.device)
        self.may_record = can_record(network.device) and room.atoms <= MOST_ATOMS and settings.stress_weight == 0
        self.steps = self.failures = 0
        self.why_not = ""
        self.inputs: dict[str, torch.Tensor] | None = None

    def loss(self, graphs: Sequence[Any], labels: Labels) -> torch.Tensor | None:
        """Return the loss of a batch and leave its gradients; None, and no gradients, if it is not recorded.

        labels: on the CPU.
        """
        self.steps += 1
        if not self.may_record or self.steps <= PLAIN_STEPS * (self.failures + 1):
            return None
        given = {**self.network.filled(graphs, self.room), **_as_inputs(_filled(labels, self.room))}
        try:
            if self.inputs is None:
                self._record(given)
        except Exception as error:  # noqa: BLE001 - too little memory, say; if the device has failed the next step does
            self.why_not = f"{type(error).__name__}: {error}".partition("\n")[0]
            self.failures += 1
            self.may_record = self.failures < TRIES
            self._clear()
            return None
        assert self.inputs is not None
        for key, value in given.items():
            self.inputs[key].copy_(value, non_blocking=True)
        self.play()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.result.clone()

    def _record(self, given: Mapping[str, torch.Tensor]) -> None:
        inputs = {key: value.to(self.device) for key, value in given.items()}

        def work() -> tuple[torch.Tensor, ...]:
            batch = {key: value for key, value in inputs.items() if not key.startswith(_LABEL)}
            labels = Labels(**{key.removeprefix(_LABEL): inputs[key] for key in inputs if key.startswith(_LABEL)})
            loss = huber_loss(self.network.evaluate_filled(batch), labels, self.settings)
            loss.backward()  # type: ignore[no-untyped-call]
            return (loss.detach(),)

        self.play, (self.result,) = capture(work, self.device, prepare=self._clear)
        self.gradients = [parameter.grad for parameter in self.parameters]
        self.inputs = inputs

    def _clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


_LABEL = "label_"


def _as_inputs(labels: Labels) -> dict[str, torch.Tensor]:
    values = {_LABEL + field.name: getattr(labels, field.name) for field in fields(labels)}
    return {key: value for key, value in values.items() if value is not None}


def _filled(labels: Labels, room: Room) -> Labels:
    """Return labels of a filled batch, whose loss is that of `labels`: what fills has no weight."""
    n_atoms, n_frames = len(labels.forces_eV_per_A), len(labels.n_atoms)
    atoms, frames = (0, room.atoms - n_atoms), (0, room.frames - n_frames)
    return replace(
        labels,
        energy_eV=pad(labels.energy_eV, frames),
        forces_eV_per_A=pad(labels.forces_eV_per_A, (0, 0, *atoms)),
        n_atoms=pad(labels.n_atoms, frames, value=1.0),
        atom_weight=pad(labels.atom_weight * (room.atoms / n_atoms), (0, 0, *atoms)),  # the mean is over more
        energy_weight=pad(labels.energy_weight, frames),
        stress_weight=pad(labels.stress_weight, frames),
        stress=None,
    )
