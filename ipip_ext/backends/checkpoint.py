"""Where a training stands, and the file that brings it back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ipip_ext.errors import ModelFileError
from ipip_ext.recipe.training import Fit


@dataclass
class Progress:
    """Epochs and steps done, the best validation so far, and what patience and plateau have counted."""

    epoch: int = 0
    step: int = 0
    best_loss: float = float("inf")
    best_epoch: int = -1
    best_valid: dict[str, float] = field(default_factory=dict)
    valid: dict[str, float] = field(default_factory=dict)
    since_best: int = 0
    plateau_factor: float = 1.0
    stopped: bool = False
    passes: int = 1
    """Parts in which a batch is computed: more than one where memory has been too small."""

    def judge(self, found: Mapping[str, float], settings: Fit) -> bool:
        """Take note of a validation; return whether it is the best so far."""
        self.valid = dict(found)
        if found["loss"] < self.best_loss:
            self.best_loss, self.best_epoch, self.since_best = found["loss"], self.epoch, 0
            self.best_valid = dict(found)
            return True
        self.since_best += 1
        if settings.schedule == "plateau" and self.since_best % _PLATEAU == 0:
            self.plateau_factor = max(self.plateau_factor * 0.5, settings.lr_final_fraction)
        self.stopped = settings.patience is not None and self.since_best >= settings.patience
        return False


_PLATEAU = 10  # validations without improvement before `plateau` halves the rate


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a training between two epochs.

    module, best: weights by name, those at work and the best by validation. optimizer, ema: as torch and torch_ema
    keep theirs; None for a training without EMA.
    """

    module: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    ema: Mapping[str, Any] | None
    best: Mapping[str, torch.Tensor]
    state: Progress

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".tmp")
        data = {
            "module": self.module, "optimizer": self.optimizer, "ema": self.ema, "best": self.best,
            "state": asdict(self.state),
        }  # fmt: skip
        torch.save(data, part)
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path, device: str) -> Checkpoint | None:
        """Return what `save` wrote, on `device`; None if nothing was. Raises ModelFileError if it is broken."""
        if not path.exists():
            return None
        try:
            found: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            return cls(**{**found, "state": Progress(**found["state"])})
        except Exception as error:  # noqa: BLE001 - torch raises whatever its unpickler meets
            raise ModelFileError(
                f"{path}: is corrupt ({type(error).__name__}); delete it, and this training starts anew."
            ) from None
