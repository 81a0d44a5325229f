"""stability: does MD with a model stay physical? All models walk from the same starts with the same random numbers."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ipip_ext import md
from ipip_ext.data import frames as fr
from ipip_ext.data.tables import write_csv
from ipip_ext.recipe.evaluate import Stability
from ipip_ext.recipe.walk import Explore
from ipip_ext.run.stage import Context
from ipip_ext.stages.evaluate import potential_of
from ipip_ext.stages.inputs import Model

SHARE = "md_sane_share"
_FRAMES = 20
"""Frames kept of a walk, whatever its length. Nobody reads them, but the guard looks at each."""


def as_md(settings: Stability, starts: Path, max_batch_replicas: int) -> Explore:
    """Return the MD that `settings` ask for. starts: used where they name none."""
    n_steps = round(settings.time_ps * 1000 / settings.timestep_fs)
    shared = settings.model_dump(include=set(Explore.model_fields) - {"starts"})
    return Explore(
        starts=settings.starts or starts,
        n_steps=n_steps,
        frame_every=math.ceil(n_steps / _FRAMES),
        max_batch_replicas=max_batch_replicas,
        **shared,
    )


def stability(ctx: Context, settings: Explore, *, model: Model, starts: Path, seed: int) -> dict[str, Any]:
    """Walk with a model and count the walks that the guard never stopped.

    seed: the same for every model, so that all start with equal velocities and
    feel equal random forces. A walk in which the model fails is stopped too.
    """
    structures = fr.read_structures(starts)
    replicas = md.plan_replicas(structures, settings, seed, "stability")
    if said := md.too_long(settings.timestep_fs, structures):
        ctx.note(said)
    folder = ctx.folder / "md"

    def tell(done: int, total: int, text: str) -> None:
        ctx.progress(done / total, text)

    stops = md.run(potential_of(model, ctx), replicas, settings, folder, tell).stops
    (ctx.folder / "stops.json").write_text(json.dumps([asdict(stop) for stop in stops], indent=1), encoding="utf-8")
    _write_walks(ctx.folder / "walks.csv", replicas, settings, {stop.replica: stop for stop in stops})
    shutil.rmtree(folder)
    sane = _sane(replicas, {stop.replica for stop in stops})
    shares = {key: sum(ends) / len(ends) for key, ends in sane.items()}
    for key, share in shares.items():
        ctx.metric(key, share)
    time_ps = settings.n_steps * settings.timestep_fs / 1000
    ctx.note(_sentence(sane, time_ps, stops))
    return {
        "stops": ctx.folder / "stops.json",
        "walks": ctx.folder / "walks.csv",
        "shares": shares,
        "n_walks": len(replicas),
        "n_stopped": len(stops),
        "time_ps": time_ps,
    }


def by_temperature(keys: Collection[str]) -> list[str]:
    """Return metrics of sane shares as a table has them, whatever kept them: temperatures as they rise, then all."""
    each = {float(key.removeprefix(f"{SHARE}_").removesuffix("K")): key for key in keys if key != SHARE}
    return [*(each[temperature_K] for temperature_K in sorted(each)), *(key for key in keys if key == SHARE)]


def _sane(replicas: Sequence[md.Replica], stopped: set[str]) -> dict[str, list[bool]]:
    """Return whether each walk ended sanely, by metric: for each temperature, and for all."""
    temperatures_K = dict.fromkeys(replica.temperature_K for replica in replicas)
    found = {
        f"{SHARE}_{temperature_K:g}K": [r.id not in stopped for r in replicas if r.temperature_K == temperature_K]
        for temperature_K in temperatures_K
    }
    return {**found, SHARE: [replica.id not in stopped for replica in replicas]}


def _sentence(sane: Mapping[str, Sequence[bool]], time_ps: float, stops: Sequence[md.Stop]) -> str:
    *each, (_, every) = sane.items()
    by_temperature = ", ".join(f"{key.removeprefix(SHARE + '_')} {sum(ends)}/{len(ends)}" for key, ends in each)
    told = f"{sum(every)} of {len(every)} MD runs of {time_ps:g} ps ended sanely ({by_temperature})"
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(stop.reason for stop in stops).most_common())
    return f"{told}; stopped by {reasons}" if reasons else told


def _write_walks(
    path: Path, replicas: Sequence[md.Replica], settings: Explore, stops: Mapping[str, md.Stop]
) -> None:  # fmt: skip
    rows = []
    for replica in replicas:
        stop = stops.get(replica.id)
        md_step = settings.n_steps if stop is None else stop.md_step
        rows.append(
            {
                "replica": replica.id, "start": replica.start_name, "temperature_K": replica.temperature_K,
                "n_atoms": len(replica.start), "time_ps": f"{md_step * settings.timestep_fs / 1000:g}",
                **{key: getattr(stop, key, "") for key in ("reason", "value", "limit")},
            }
        )  # fmt: skip
    write_csv(path, rows)
