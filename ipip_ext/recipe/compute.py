"""Recipe section of where stages are computed; it decides no result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ipip_ext.recipe.schema import Section


class Compute(Section):
    """Where stages are computed. Nothing here decides a result: the same recipe gives the same weights at each place,
    and a run may go on at another.
    """

    place: Literal["here", "processes", "parsl"] | None = None
    """`here`: in the run's own process, one stage after another. `processes`: in processes of this machine; what is
    independent (baselines, members of a committee, evaluations, walks) goes side by side. `parsl`: on the executors of
    a place file, such as the nodes of a cluster (docs/cluster.md). null: `processes` where `parallel` finds room for
    more than one, else `here`."""

    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Processes of `place: processes`, each with `threads` threads. null: as many as the machine has cores for; one
    with a GPU. Of `place: parsl`: how many runs of `ablate` go at once; null: 4."""

    parsl: Path | None = None
    """Place file of `place: parsl`: executors by name, in Parsl's own terms (recipes/places)."""

    stages: Mapping[str, str] = {}
    """Which executor of the place file a stage goes to, as `{pretrain: gpu, ask: cpu}`; `here` is the run's own
    process. Stages that are not named go to the file's first executor."""

    retries: Annotated[int, Field(ge=0, le=100)] = 1
    """How often a stage is tried again, from its last checkpoint, whose process or node has died."""

    @model_validator(mode="after")
    def _goes_together(self) -> Compute:
        if self.place == "parsl" and self.parsl is None:
            raise ValueError("place: parsl needs a place file: parsl: cluster.yaml; recipes/places has examples")
        if self.place not in ("parsl", None) and self.stages:
            raise ValueError(f"stages names executors of a place file; place {self.place} has none")
        return self
