"""The options of `simulate`: one list of names, types and defaults for Python, the command line and the check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, cast, get_type_hints

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, create_model

from ipip_ext.errors import RecipeError
from ipip_ext.recipe.schema import Section, explain
from ipip_ext.recipe.walk import Explore
from ipip_ext.simulate import plan

ENSEMBLES = {"nvt": "nvt_langevin", "nvt_bussi": "nvt_bussi", "nve": "nve", "npt": "npt"}
"""Names for users -> names in recipes."""

_NOT_OF_THE_WALK = ("supercell", "restarts", "seed", "device", "threads", "on_unknown")
"""Options that `Explore` doesn't know, or not by this name."""

_Repeats = Annotated[int, Field(ge=1, le=100)]


class MDOptions(TypedDict, total=False):
    """How to walk. `DEFAULTS` holds for what is left out."""

    ensemble: Literal["nvt", "nvt_bussi", "nve", "npt"]
    """nvt: Langevin. nvt_bussi: stochastic velocity rescaling. npt: the cell keeps its shape."""

    engine: Literal["ase", "torchsim"]
    """torchsim: for MACE models, with the extra torchsim and Python 3.12 or newer."""

    temperatures_K: float | Sequence[float | tuple[float, float]]
    """Each structure walks at each; a pair is a ramp. In nve: of the first velocities."""

    pressure_GPa: float | None
    """Of npt; 0 where it is not given."""

    time_ps: PositiveFloat
    """Length of each walk."""

    timestep_fs: PositiveFloat
    """MD time step."""

    frame_every: PositiveInt | None
    """Steps between frames and lines of the log; None: 20, or the whole walk where that is shorter."""

    replicas: PositiveInt
    """Walks of each structure at each temperature."""

    friction_per_fs: PositiveFloat
    """Of nvt and npt."""

    barostat_time_fs: PositiveFloat
    """Of npt."""

    initial_temperature_factor: PositiveFloat
    """Velocities begin at this times the temperature. From a relaxed structure about half of it is lost."""

    supercell: tuple[_Repeats, _Repeats, _Repeats]
    """How often a structure is repeated along each of its cell vectors."""

    restarts: NonNegativeInt
    """Of a walk that ran wild."""

    guard: Mapping[str, Any]
    """When a walk is stopped: the recipe's guard, such as {"max_temperature_factor": 20}."""

    on_unknown: Literal["ignore", "warn", "stop"]
    """Outside of what a student has learnt (home distance above 1): a warning, or the end of a walk (above 2)."""

    max_batch_replicas: PositiveInt
    """Walks evaluated together."""

    seed: int
    """All randomness derives from it."""

    device: str
    """auto takes a GPU where there is one."""

    threads: PositiveInt
    """CPU threads; more pay for large cells."""


DEFAULTS = MDOptions(
    ensemble="nvt", engine="ase", temperatures_K=(300.0,), pressure_GPa=None, time_ps=10.0, timestep_fs=1.0,
    frame_every=None, replicas=1, friction_per_fs=0.01, barostat_time_fs=1000.0, initial_temperature_factor=1.0,
    supercell=(1, 1, 1), restarts=0, guard={}, on_unknown="warn", max_batch_replicas=32, seed=0, device="auto",
    threads=1,
)  # fmt: skip


def checked(options: MDOptions) -> MDOptions:
    """Return the options with a default for what is left out. Raises RecipeError."""
    kinds, defaults = get_type_hints(MDOptions, include_extras=True), dict(DEFAULTS)
    fields: dict[str, Any] = {key: (kind, defaults[key]) for key, kind in kinds.items()}
    section: type[Section] = create_model("md", __base__=Section, **fields)
    try:
        found = section.model_validate(options).model_dump()
    except ValidationError as error:
        raise explain(error, section, "md") from None
    if not isinstance(found["temperatures_K"], Sequence):
        found["temperatures_K"] = [found["temperatures_K"]]
    if found["pressure_GPa"] is not None and found["ensemble"] != "npt":
        raise RecipeError(
            f"md: pressure_GPa needs ensemble npt, not {found['ensemble']}; nothing else keeps a pressure."
        )
    return cast("MDOptions", found)


def settings(structure: str, asked: MDOptions) -> Explore:
    """Return checked options as settings of a recipe's MD. structure: what walks, in words. Raises RecipeError."""
    keys: dict[str, Any] = {key: value for key, value in asked.items() if key not in _NOT_OF_THE_WALK}
    keys |= {
        "ensemble": ENSEMBLES[asked["ensemble"]],
        "pressure_GPa": asked["pressure_GPa"] or 0.0,
        "guard": {**asked["guard"], "restarts": asked["restarts"]},
    }
    return plan.settings_of(structure, **keys)
