"""The suite that every backend passes. A new backend inherits `BackendConformance` in one test class:

class TestMyBackend(BackendConformance):
    backend = MyBackend()
    config = MyConfig(...)          # float64, so that tolerances mean something
"""

from __future__ import annotations

from ipip_ext.backends.conformance.groups import Groups
from ipip_ext.backends.conformance.physics import Physics
from ipip_ext.backends.conformance.prediction import Predictions
from ipip_ext.backends.conformance.storage import Storage
from ipip_ext.backends.conformance.task import E0S_EV, Interrupted, alloy
from ipip_ext.backends.conformance.training import Training
from ipip_ext.backends.conformance.weights import Weights

__all__ = ["E0S_EV", "BackendConformance", "Interrupted", "alloy"]


class BackendConformance(Physics, Predictions, Weights, Storage, Groups, Training):
    """Behaviour that the loop relies on."""
