"""IPIP on MACE: small, fast interatomic potentials from a foundation model and a few labels."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipip_ext.teachers.load import load_calculator, load_potential, load_structures

__version__ = "0.1.0"
__all__ = ["__version__", "load_calculator", "load_potential", "load_structures"]


def __getattr__(name: str) -> Any:
    # torch and mace take seconds to import: only when they are wanted
    if name in __all__:
        from ipip_ext.teachers import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
