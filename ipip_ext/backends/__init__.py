"""Students: the contract, the registry, and one package or module for each backend."""
