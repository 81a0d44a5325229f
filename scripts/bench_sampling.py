#!/usr/bin/env python
"""Time MD of many replicas against what one would write with ASE and MACE alone; print tables for docs/benchmarks.md.

    scripts/bench_sampling.py [--device cuda] [--threads 1] [--parts speed,size,replicas,memory] [--long]

Students have random weights, which take the same time as trained ones; starts are those of recipes/data/mo_s_o. All
ways of one block take turns, and medians count. On a CPU with one thread times are CPU time, else wall time. Short
forms by default: about five minutes on one core. Runs without a GPU and without torch-sim, which only adds rows.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin

from ipip_ext import md
from ipip_ext.backends import registry
from ipip_ext.data import frames as fr
from ipip_ext.md.replicas import initial_momenta
from ipip_ext.recipe import students
from ipip_ext.recipe.walk import Explore, Guard

DATA = Path(__file__).parent.parent / "recipes" / "data" / "mo_s_o" / "starts.extxyz"
STUDENTS = ("16x0e", "32x0e", "32x0e+32x1o")
PARTS = ("speed", "size", "replicas", "memory", "torchsim", "profile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--long", action="store_true", help="more rounds and steps; memory over 100 000 steps")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    bench = Bench(options.device, options.threads, options.long)
    print(f"{options.device}, {options.threads} thread(s), PyTorch {torch.__version__}, float32, Langevin at 300 K\n")
    for part in options.parts.split(","):
        getattr(bench, part)()


class Bench:
    """The blocks of the report. Each prints one table."""

    def __init__(self, device: str, threads: int, long: bool) -> None:
        self.device = device
        self.clock = time.process_time if device == "cpu" and threads == 1 else time.perf_counter
        self.rounds = 7 if long else 3
        self.long = long
        self.n_steps = 100 if long else 20
        self.starts = fr.read_frames(DATA)

    def speed(self) -> None:
        """Print replica-steps per second of both ways for every student, and what is spent outside the model."""
        n_replicas = 20 if self.device == "cpu" else 256
        rows = []
        for irreps in STUDENTS:
            for repeat in ((1, 1, 1), (2, 1, 1)):
                starts = [start.repeat(repeat) for start in self.starts]
                ours = self.batched(irreps, starts, n_replicas)
                plain = self.serial(irreps, starts)
                per_s, shares = self.in_turn({"ours": ours, "plain": plain})
                atoms = np.mean([len(start) for start in starts])
                rows.append((
                    irreps, f"{atoms:.0f}", f"{per_s['plain']:.0f}", f"{per_s['ours']:.0f}",
                    f"**{per_s['ours'] / per_s['plain']:.1f} x**", f"{shares['plain']:.0%}", f"{shares['ours']:.0%}",
                ))  # fmt: skip
        table(
            f"{n_replicas} replicas in one batch against ASE's Langevin with MACECalculator, one after the other",
            ("student", "atoms", "plain, steps/s", "ours, replica-steps/s", "ratio",
             "outside the model, plain", "outside the model, ours"),
            rows,
        )  # fmt: skip

    def size(self) -> None:
        """Print speed against atoms per replica, about as many atoms in a batch."""
        rows = []
        for repeat in ((1, 1, 1), (2, 1, 1), (2, 2, 1), (3, 3, 1), (6, 6, 1), (13, 13, 1)):
            starts = [self.starts[0].repeat(repeat)]
            n_replicas = max(1, (240 if self.device == "cpu" else 20_000) // len(starts[0]))
            rows.append((f"{len(starts[0])}", *self.growth("32x0e", starts, n_replicas)))
        table("Atoms per replica, student 32x0e", ("atoms", *GROWTH), rows)

    def replicas(self) -> None:
        """Print speed against the number of replicas; on a GPU all in one batch, as far as its memory goes."""
        cuda = self.device != "cpu"
        rows, n_replicas, most = [], 1, 10**6 if cuda else 64
        while n_replicas <= most:
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            row = self.growth("32x0e+32x1o", self.starts, n_replicas, batch_atoms=10**9 if cuda else None)
            if cuda:
                peak, whole = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
                row = (*row, f"{peak / 1e9:.1f} GB")
                most = n_replicas if 2.2 * peak > whole else most  # twice as many would not fit
            rows.append((f"{n_replicas}", *row))
            n_replicas *= 2
        head = ("replicas", *GROWTH, "peak of GPU memory") if cuda else ("replicas", *GROWTH)
        table("Replicas of about 12 atoms, student 32x0e+32x1o", head, rows)

    def growth(
        self, irreps: str, starts: Sequence[Atoms], n_replicas: int, batch_atoms: int | None = None
    ) -> tuple[str, ...]:
        """Return a row of numbers for so many replicas."""
        steps = max(4, self.n_steps // 2)
        run = self.batched(irreps, starts, n_replicas, steps, batch_atoms=batch_atoms)
        per_s, shares = self.in_turn({"ours": run})
        atoms = np.mean([len(start) for start in starts])
        return f"{per_s['ours']:.1f}", f"{1e6 / (per_s['ours'] * atoms):.0f}", f"{shares['ours']:.0%}"

    def memory(self) -> None:
        """Print the resident memory of this process along one long walk."""
        n_steps = 100_000 if self.long else 1_000
        found: list[tuple[float, float]] = []
        run = self.batched(
            "16x0e", self.starts[:4], 4, n_steps, tell=lambda done: found.append((done, resident_megabytes()))
        )
        run()
        shown = found[:: max(1, len(found) // 8)]
        table(
            f"Memory along a walk of {n_steps} steps, 4 replicas of 12 atoms, a frame every 20 steps",
            ("replica-steps", "resident, MB"),
            [(f"{done:.0f}", f"{megabytes:.0f}") for done, megabytes in shown],
        )
        print(f"peak of this process: {peak_megabytes():.0f} MB\n")

    def torchsim(self) -> None:
        """Print the throughput of both engines, and of torch-sim alone, for the same model and starts."""
        try:
            import torch_sim as ts
        except ImportError:
            print("torch-sim: not installed (the extra torchsim, Python 3.12 or newer)\n")
            return
        n_replicas = 16 if self.device == "cpu" else 256
        rows = []
        for irreps in STUDENTS:
            starts = [start.repeat((2, 1, 1)) for start in self.starts]
            model = registry.backend("mace").potential(student(irreps), self.device).torchsim_model(stress=False)
            system = [starts[i % len(starts)].copy() for i in range(n_replicas)]

            def theirs(system: Any = system, model: Any = model) -> tuple[int, float]:
                ts.integrate(
                    system=system, model=model, integrator=ts.Integrator.nvt_langevin, n_steps=self.n_steps,
                    temperature=300, timestep=0.001,
                )  # fmt: skip
                return len(system) * self.n_steps, float("nan")

            ways = {engine: self.batched(irreps, starts, n_replicas, engine=engine) for engine in ("ase", "torchsim")}
            per_s, shares = self.in_turn({**ways, "theirs": theirs})
            ratio = per_s["ase"] / per_s["torchsim"]
            rows.append((
                irreps, *(f"{per_s[name]:.0f}" for name in ("theirs", "torchsim", "ase")), f"{ratio:.2f} x",
                *(f"{shares[engine]:.0%}" for engine in ("torchsim", "ase")),
            ))  # fmt: skip
        title = f"torch-sim, {n_replicas} replicas of about 24 atoms, replica-steps/s"
        outside = [f"outside the model, {engine}" for engine in ("torchsim", "ase")]
        table(title, ("student", "ts.integrate", "engine torchsim", "engine ase", "ase : torchsim", *outside), rows)

    def profile(self) -> None:
        """Print how much of the wall time the GPU computes."""
        if self.device == "cpu":
            return
        rows = []
        for irreps in STUDENTS:
            for n_replicas in (64, 256, 1024):
                run = self.batched(irreps, [start.repeat((2, 1, 1)) for start in self.starts], n_replicas)
                run()
                began = time.perf_counter()
                run()
                wall_s = time.perf_counter() - began
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                    run()
                kernels_s = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
                step_ms = wall_s / self.n_steps * 1e3
                rows.append((irreps, f"{n_replicas}", f"{step_ms:.1f} ms", f"{kernels_s / wall_s:.0%}"))
        table("The GPU at work, about 24 atoms", ("student", "replicas", "wall time a step", "of it in kernels"), rows)

    def in_turn(self, ways: dict[str, Callable[[], tuple[int, float]]]) -> tuple[dict[str, float], dict[str, float]]:
        """Return the median speed in replica-steps/s, and the median share outside the model, of each way."""
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        shares: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(self.rounds + 1):
            for name, run in ways.items():
                began = self.clock()
                steps, inside_s = run()
                spent_s = self.clock() - began
                if turn:  # the first warms up
                    speeds[name].append(steps / spent_s)
                    shares[name].append(1 - inside_s / spent_s)
        medians = [{name: float(np.median(of[name])) for name in ways} for of in (speeds, shares)]
        return medians[0], medians[1]

    def batched(
        self, irreps: str, starts: Sequence[Atoms], n_replicas: int, n_steps: int | None = None,
        tell: Callable[[int], None] | None = None, batch_atoms: int | None = None, engine: str = "ase",
    ) -> Callable[[], tuple[int, float]]:  # fmt: skip
        """Return a walk with our engine; it returns replica-steps and seconds in the model."""
        n_steps = n_steps or self.n_steps
        temperature_K = 1.0 if tell else 300.0  # on a long, hot walk atoms of a student without training do meet
        potential = registry.backend("mace").potential(student(irreps), self.device)
        potential.max_atoms = batch_atoms or potential.max_atoms
        settings = Explore(
            starts=DATA, engine=engine, temperatures_K=(temperature_K,), replicas=-(-n_replicas // len(starts)),
            n_steps=n_steps, frame_every=min(20, n_steps), max_batch_replicas=n_replicas,
            initial_temperature_factor=1.0, guard=Guard(min_distance_factor=0.01) if tell else Guard(),
        )  # fmt: skip
        replicas = md.plan_replicas(starts, settings, 0, "bench")[:n_replicas]
        timed = self.timed(potential.module, "forward")  # which torch-sim calls too

        def run() -> tuple[int, float]:
            timed.clear()
            with tempfile.TemporaryDirectory() as folder:
                result = md.run(potential, replicas, settings, Path(folder), lambda done, *_: tell and tell(done))
            assert not result.stops, result.stops[0].sentence
            return n_replicas * n_steps, sum(timed)

        return run

    def serial(self, irreps: str, starts: Sequence[Atoms]) -> Callable[[], tuple[int, float]]:
        """Return a walk with ASE and MACE alone, from a few starts one after the other."""
        from mace.calculators import MACECalculator

        with tempfile.TemporaryDirectory() as folder:
            registry.backend("mace").export(student(irreps), Path(folder))
            path = str(Path(folder) / "student.model")
            calculator = MACECalculator(model_paths=path, device=self.device, default_dtype="float32")
        timed = self.timed(calculator.models[0], "forward")

        def run() -> tuple[int, float]:
            timed.clear()
            for number, start in enumerate(starts[:2]):
                atoms = start.copy()
                atoms.calc = calculator
                atoms.set_momenta(initial_momenta(atoms, 300.0, np.random.default_rng(number)))
                rng = np.random.default_rng(number)
                Langevin(
                    atoms, units.fs, temperature_K=300, friction=0.01 / units.fs, fixcm=False, rng=rng
                ).run(self.n_steps)  # fmt: skip
            return 2 * self.n_steps, sum(timed)

        return run

    def timed(self, owner: Any, name: str) -> list[float]:
        """Let each call of a method leave its seconds in the list that is returned."""
        seconds: list[float] = []
        method = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            with self.stopwatch(seconds):
                return method(*arguments, **options)

        setattr(owner, name, call)
        return seconds

    @contextlib.contextmanager
    def stopwatch(self, seconds: list[float]) -> Iterator[None]:
        """Note how long a block takes, to the end of the GPU's work."""
        began = self.clock()
        yield
        if self.device != "cpu":
            torch.cuda.synchronize()
        seconds.append(self.clock() - began)


GROWTH = ("replica-steps/s", "us per atom and step", "outside the model")


def student(irreps: str) -> Any:
    """Return a student with random weights and weak forces, so that any walk of it stays calm."""
    config = students.config_class("mace")(hidden_irreps=irreps)
    frames = fr.read_frames(DATA)
    for frame in frames:
        frame.set_array(fr.FORCES, np.full((len(frame), 3), 1e-2))
    return registry.backend("mace").build(config, dict.fromkeys(("Mo", "O", "S"), 0.0), frames, seed=0)


def resident_megabytes() -> float:
    """Return the memory this process holds now, MB; its peak where the system does not tell."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    return peak_megabytes()


def peak_megabytes() -> float:
    """Return the most memory this process ever held, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a markdown table."""
    print(f"### {title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


if __name__ == "__main__":
    main()
