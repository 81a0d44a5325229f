"""The dynamics. The only place where fs becomes ASE's time unit."""

from ipip_ext.md.engine import MDResult, run
from ipip_ext.md.guard import Stop
from ipip_ext.md.integrators import stepper
from ipip_ext.md.replicas import Replica, plan_replicas

__all__ = ["MDResult", "Replica", "Stop", "plan_replicas", "run", "stepper"]
