"""Search for recipes and frames that their readers choke on, guided by coverage: libFuzzer, by way of atheris.

    python tests/fuzz.py recipe --seconds 600
    python tests/fuzz.py frames --runs 2000 --seed 1 --keep found/

A find is an exception that is no UserError, more than 20 seconds, or more than 4 GB; it ends the search, with the input
in `keep`. Finds become cases of tests/corpus.py.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import atheris
from ase.build import bulk

with atheris.instrument_imports(include=["ipip_ext", "yaml", "ase.io.extxyz"]):
    import yaml

    from ipip_ext import errors
    from ipip_ext.data import frames
    from ipip_ext.recipe import file

RECIPE = """name: tiny
seed: 3
data: {train: a.extxyz, test: "b.extxyz", ood: {key: start, values: [s2]}, e0s: {Cu: -1.5, Al: 2}}
teacher: {python: "ase.calculators.emt:EMT"}
student:
  hidden_irreps: 4x0e+4x1o
  radial_MLP: [8]
explore: &walk
  starts: starts.extxyz
  temperatures_K: [600, [300, 900]]
sample: *walk
baselines:
  - kind: teacher
  - {kind: scratch, fit: {epochs: 3}}
"""


def read_recipe(path: Path) -> None:
    file.load_recipe(path)


def read_frames(path: Path) -> None:
    frames.read_labelled(path, frames.LabelKeys(stress="REF_stress"))


def seeds_of(target: str) -> list[bytes]:
    """Return valid inputs to begin with."""
    if target == "recipe":
        shipped = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
        return [RECIPE.encode(), *(path.read_bytes() for path in shipped if path.stat().st_size < 3000)]
    atoms = bulk("Cu", cubic=True)
    lines = "\n".join(
        f"{s} {x} {y} {z} 0.5 -1e-3 0" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    )
    header = '4\nLattice="3.6 0 0 0 3.6 0 0 0 3.6" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-3.5'
    whole = f'{header} pbc="T T T" REF_stress="1 0 0 0 1 0 0 0 1" name=a\n{lines}\n'
    return [whole.encode(), 2 * whole.encode(), yaml.safe_dump({"a": 1}).encode()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=["recipe", "frames"])
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path())
    asked = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (place / "seeds").mkdir()
    for index, seed in enumerate(seeds_of(asked.target)):
        (place / "seeds" / str(index)).write_bytes(seed)
    name, read = {"recipe": ("recipe.yaml", read_recipe), "frames": ("a.extxyz", read_frames)}[asked.target]

    def one(data: bytes) -> None:
        (place / name).write_bytes(data)
        try:
            read(place / name)
        except errors.UserError as error:
            assert str(place / name) in str(error) or asked.target == "recipe", error

    # Linux counts the peak of the process that started this one as its own
    grown_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 4096
    options = {
        "runs": asked.runs, "max_total_time": asked.seconds, "seed": asked.seed, "artifact_prefix": f"{asked.keep}/",
        "timeout": 20, "rss_limit_mb": grown_MB, "verbosity": 0, "print_final_stats": 1,
    }  # fmt: skip
    atheris.Setup([sys.argv[0], str(place / "seeds"), *(f"-{key}={value}" for key, value in options.items())], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
