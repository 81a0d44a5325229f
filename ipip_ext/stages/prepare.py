"""prepare: freeze the test set first, then check, split, and fit the energy zeros on train only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipip_ext.data import frames as fr
from ipip_ext.data import leakage, states
from ipip_ext.data.dataset import load_dataset
from ipip_ext.recipe.data import Data
from ipip_ext.run.stage import Context


def prepare(
    ctx: Context, data: Data, *, train: Path, test: Path | Mapping[str, Path], valid: Path | None, starts: Path,
    split_seed: int, isolated_atoms: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write test, train, valid and starts with normalised labels and frame ids; of named sets of test one file.

    Raises DataError for test frames that something in this run has been trained on, if they are new to it.
    """
    paths = {"train": train, "test": test, "valid": valid, "isolated_atoms": isolated_atoms}
    loaded = load_dataset(data.model_copy(update=paths), starts, split_seed, ctx.progress)
    leakage.refuse_trained_on(ctx.root, loaded.test)
    outputs: dict[str, Any] = {}
    for name in ("test", "train", "valid", "starts"):
        outputs[name] = ctx.folder / f"{name}.extxyz"
        fr.write_frames(outputs[name], getattr(loaded, name))
    ctx.note(
        f"{len(loaded.train)} training, {len(loaded.valid)} validation and {len(loaded.test)} test frames,"
        f" {len(loaded.starts)} starts, elements {' '.join(loaded.e0s_eV)}"
    )
    if loaded.n_left_out:
        ctx.note(f"{loaded.n_left_out} frames of train left out: a force in them is above data.max_force_eV_per_A")
    if loaded.n_isolated:
        ctx.note(f"{loaded.n_isolated} isolated atoms of train are not trained on")
    if said := states.told([*loaded.train, *loaded.valid, *loaded.test, *loaded.starts]):
        ctx.note(said)
    values = {"e0s_eV": loaded.e0s_eV, "n_train": len(loaded.train), "n_valid": len(loaded.valid)}
    return {**outputs, **values, **({"test_sets": loaded.test_sets} if loaded.test_sets else {})}
