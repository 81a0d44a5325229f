"""What MACE's `run_train` is told: the options of mace-torch 0.3.16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipip_ext.backends.base import FitJob, Tuning
from ipip_ext.backends.mace.model import Spec
from ipip_ext.data import frames as fr
from ipip_ext.recipe.training import Fit

NAME = "run_train"
"""What MACE's files in the folder of a training begin with."""

_FREEZE = {"embedding": 1, "interactions": 5, "products": 6}
"""What `--freeze` calls the block up to which weights stay."""


@dataclass(frozen=True)
class Options:
    """One fine-tuning as `run_train` is told of it; its input files stand in `job.folder`.

    Its energies are above zeros already. epochs: as many as the recipe wants.
    """

    spec: Spec
    settings: Fit
    tuning: Tuning
    job: FitJob
    batch_size: int
    epochs: int

    def arguments(self, epochs: int) -> list[str]:
        """Return the command line of a process that ends after so many epochs."""
        fit, folder = self.settings, self.job.folder.resolve()
        given: dict[str, Any] = {
            "name": NAME, "seed": self.job.seed, "work_dir": folder, "device": self.job.device.partition(":")[0],
            "default_dtype": self.spec.config.dtype, "foundation_model": folder / "foundation.model",
            "foundation_model_elements": True, "E0s": dict.fromkeys(self.spec.atomic_numbers, 0.0),
            "train_file": folder / "train.extxyz",
            "valid_file": folder / "valid.extxyz", "energy_key": fr.ENERGY, "forces_key": fr.FORCES,
            "stress_key": fr.STRESS, "loss": "universal", "energy_weight": fit.energy_weight,
            "forces_weight": fit.force_weight, "stress_weight": fit.stress_weight,
            "huber_delta": fit.huber_delta_energy_eV_per_atom, "max_num_epochs": epochs,
            "eval_interval": fit.validate_every, "batch_size": self.batch_size, "valid_batch_size": self.batch_size,
            "optimizer": "adamw", "lr": fit.lr, "weight_decay": fit.weight_decay, "clip_grad": fit.max_grad_norm,
            "patience": epochs + 1, "error_table": "PerAtomMAE", "plot": False, "skip_evaluate_heads": "pt_head",
        }  # fmt: skip
        given |= self._schedule() | self._method()
        flags = ["--restart_latest", "--keep_checkpoints", "--save_cpu"]
        if fit.ema_decay is not None:
            flags += ["--ema", f"--ema_decay={fit.ema_decay}"]
        return [*(f"--{key}={value}" for key, value in given.items()), *flags]

    def _schedule(self) -> dict[str, Any]:
        if self.settings.schedule == "plateau":
            return {"scheduler": "ReduceLROnPlateau", "lr_factor": 0.5, "scheduler_patience": 10}
        end = max(self.settings.lr_final_fraction, 1e-3) if self.settings.schedule == "cosine" else 1.0
        return {"scheduler": "ExponentialLR", "lr_scheduler_gamma": end ** (1 / self.epochs)}

    def _method(self) -> dict[str, Any]:
        tuning, folder = self.tuning, self.job.folder.resolve()
        match tuning.method:
            case "freeze":
                return {"multiheads_finetuning": False, "freeze": _FREEZE[tuning.freeze_to]}
            case "lora":
                ranks = {"lora_rank": tuning.lora_rank, "lora_alpha": tuning.lora_alpha}
                return {"multiheads_finetuning": False, "lora": True, **ranks}
        replayed = {f"pt_{part}_file": folder / f"replay_{part}.extxyz" for part in ("train", "valid")}
        return {"multiheads_finetuning": True, "force_mh_ft_lr": True, **replayed}
