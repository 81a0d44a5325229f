"""Dynamics: engines, integrators, the guard, walkers and their checkpoints. The only place where fs become ASE's time.

May import: recipe (walks), run (seeds and disk), potentials, data.
Must not know: teachers, backends, stages.
"""

from ipip_ext.md.engine import MDResult, run
from ipip_ext.md.engines import check_engine
from ipip_ext.md.guard import Stop
from ipip_ext.md.integrators import stepper
from ipip_ext.md.kicks import filled_directions
from ipip_ext.md.replicas import Replica, check_starts, plan_replicas
from ipip_ext.md.room import check_size
from ipip_ext.md.timestep import too_long

__all__ = [
    "MDResult",
    "Replica",
    "Stop",
    "check_engine",
    "check_size",
    "check_starts",
    "filled_directions",
    "plan_replicas",
    "run",
    "stepper",
    "too_long",
]
