"""IPIP on MACE: small, fast interatomic potentials from a foundation model and a few labels."""

__version__ = "0.1.0"
