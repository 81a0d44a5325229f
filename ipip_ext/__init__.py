"""IPIP on MACE: small, fast interatomic potentials from a foundation model and a few labels."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipip_ext.load import load_calculator

__version__ = "0.1.0"
__all__ = ["__version__", "load_calculator"]


def __getattr__(name: str) -> Any:
    # torch and mace take seconds to import: only when they are wanted
    if name == "load_calculator":
        from ipip_ext.load import load_calculator

        return load_calculator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
