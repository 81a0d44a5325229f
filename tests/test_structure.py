"""Imports flow one way, and heavy or foreign packages stay behind their doors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ipip_ext"
ORDER = [
    ["errors", "potential", "seeds", "units", "provenance", "interpreter_worker", "__init__"],
    [
        "batches",
        "disk",
        "extxyz",
        "known_models",
        "lock",
        "schema",
        "compute",
        "geometry",
        "ase_calculator",
        "tables",
        "correction_basis",
    ],
    [
        "backends.registry",
        "backends.mace.config",
        "events",
        "recipe_training",
        "recipe_labels",
        "recipe_baselines",
        "recipe_walk",
        "recipe_evaluate",
    ],
    ["recipe", "signals", "fingerprint"],
    ["recipe_file", "recipe_docs", "frames", "workspace", "select", "filters", "tracking_store"],
    [
        "structure_functions",
        "property_curves",
        "leakage",
        "metrics",
        "breakdown",
        "tracking",
        "tracking_models",
        "timing",
        "status",
        "interpreter",
        "correction",
    ],
    [
        "dataset",
        "correction_fit",
        "backends",
        "calculators",
        "calculators_chgnet",
        "calculators_lammps",
        "chgnet_tuning",
        "md",
        "console",
        "plots",
        "about",
        "html",
    ],
    ["committee", "trust"],
    ["load"],
    ["simulation", "simulation_files", "simulation_summary", "mlflow_model"],
    ["stages"],
    ["rounds"],
    ["preflight", "planning", "comparison"],
    ["loop", "background"],
    ["runner", "ablate_report"],
    ["verify", "finished_runs", "compare_runs"],
    ["second_process"],
    ["ablate", "cli_md"],
    ["cli"],
]
"""From what imports nothing of ours to what imports everything; a module may import its own row and those above."""

DOORS = {
    "mace": ("backends.mace",),
    "e3nn": ("backends.mace",),
    "mlflow": ("tracking", "tracking_models", "mlflow_model"),
    "chgnet": ("calculators_chgnet",),
    "lammps": ("calculators_lammps",),
    "torch_sim": ("md.torchsim",),
}
"""Foreign package -> the only modules or packages of ours that import it."""


def modules() -> list[str]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in files]


def level(name: str) -> int:
    best = max(
        ((len(entry), row) for row, entries in enumerate(ORDER) for entry in entries
         if name == entry or name.startswith(entry + ".")),
        default=None,
    )  # fmt: skip
    assert best is not None, f"{name} has no place in ORDER"
    return best[1]


def imports(name: str) -> set[str]:
    tree = ast.parse((PACKAGE / (name.replace(".", "/") + ".py")).read_text())
    type_only = {
        inner for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }  # fmt: skip
    found = set()
    for node in ast.walk(tree):
        if node in type_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(imported: str) -> str | None:
    if not imported.startswith("ipip_ext"):
        return None
    parts = imported.split(".")[1:]
    for length in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file() or path.is_dir():
            return ".".join(parts[:length])
    return "__init__"


@pytest.mark.parametrize("name", [m for m in modules() if not m.endswith("__init__")])
def test_imports_flow_one_way(name):
    for imported in imports(name):
        target = ours(imported)
        if target is not None:
            assert level(target) <= level(name), f"{name} imports {target}, which stands above it"


@pytest.mark.parametrize("name", modules())
def test_foreign_packages_stay_behind_their_doors(name):
    for imported in imports(name):
        doors = DOORS.get(imported.split(".")[0])
        assert doors is None or f"{name}.".startswith(tuple(f"{door}." for door in doors)), f"{name} imports {imported}"


@pytest.mark.parametrize("name", [m for m in modules() if m.startswith("stages.")])
def test_stages_know_neither_tracking_nor_a_backend(name):
    for imported in imports(name):
        assert "tracking" not in imported
        assert "backends.mace" not in imported


def test_files_are_short_enough_to_read():
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420}
    assert not long
    assert len((PACKAGE / "loop.py").read_text().splitlines()) <= 150
