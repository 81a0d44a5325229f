"""Kill a real run at many points, resume it, and hold what it ends with against a run that nobody disturbed.

    python tests/torture.py --points 100 --report docs/reliability.md

A point is a moment at which something reaches the disk: before each fsync, and before and after each rename. These are
the ends of stages, every event, every epoch's checkpoint, every commit of MD and every record. At each chosen point the
run meets one of: SIGKILL, SIGTERM, SIGINT, an exception. Runs are forks of one process that has imported everything and
computed nothing, so that a point costs a run and no imports.

With `--place` stages are computed in other processes, and one more thing happens to a run: whoever computes for it at
that moment is killed. Events of stages that go side by side come in any order, so that is not compared.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alloy import write_alloy, write_recipe
from pages import write_section
from placed import place as placed
from safetensors.numpy import load_file

from ipip_ext import md, runner
from ipip_ext.backends import registry
from ipip_ext.recipe.file import load_recipe
from ipip_ext.run import signals
from ipip_ext.run.events import read_events

KINDS = ("SIGKILL", "SIGTERM", "exception", "SIGINT")
WORKER = "killed-worker"
EXPECTED = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130, "exception": 99, WORKER: 0}
OF_THE_DISTURBED = ("it goes on in another", "they are cancelled", "waiting until jobs of a run that was killed")
"""In notes that only a run that was disturbed has."""
MEASURED = re.compile(r"_(ms|s|MiB)(_\d+_atoms)?$")
"""Ends of the names of numbers that no two runs have in common: times and memory, of cells of all sizes too."""

LEFT = re.compile(r"\.part|\.job$|^lock|^jobs\.json$|^blocks\.json$")
"""Names of what no finished run holds."""

SIZES: dict[str, Any] = {
    "tracking__enabled": False, "pretrain__epochs": 3, "finetune__epochs": 3, "explore__n_steps": 20,
    "evaluate__speed_steps": 1, "evaluate__speed_supercell": [1, 1, 1],
    "baselines": [{"kind": "teacher"}, {"kind": "scratch", "fit": {"epochs": 2}}],
}  # fmt: skip


class Injected(BaseException):
    """What no code of a run expects."""


class Points:
    """Counts the points that a run passes, and at one of them does `act`."""

    def __init__(self, at: int | None = None, act: Callable[[], None] = lambda: None) -> None:
        self.passed, self._at, self._act = 0, at, act
        self._replace, self._fsync = os.replace, os.fsync

    def install(self) -> None:
        os.replace, os.fsync = self.replace, self.fsync  # type: ignore[assignment]

    def replace(self, *arguments: Any, **options: Any) -> None:
        self._pass()
        self._replace(*arguments, **options)
        self._pass()

    def fsync(self, handle: int) -> None:
        self._pass()
        self._fsync(handle)

    def _pass(self) -> None:
        self.passed += 1
        if self.passed == self._at:
            self._act()


def fork(folder: Path, points: Points) -> int:
    """Run the recipe of `folder` in a fork, as far as it comes; return its exit code, negative for a signal."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 1
    try:
        points.install()
        recipe = load_recipe(folder / "recipe.yaml")
        with signals.stoppable():
            runner.run(recipe, folder / "run", quiet=True, check=lambda _: None)
        (folder / "points").write_text(str(points.passed))
        code = 0
    except signals.Stopped as stop:
        code = stop.exit_code
    except Injected:
        code = EXPECTED["exception"]
    except BaseException:  # noqa: BLE001 - a fork must never return to its parent's stack
        traceback.print_exc()
    finally:
        os._exit(code)


def deed(kind: str, run: Path) -> Callable[[], None]:
    """Return what is done to the run at its point."""
    if kind == WORKER:
        return lambda: [os.kill(pid, signal.SIGKILL) for pid in at_work(run)] and None
    if kind == "exception":

        def fail() -> None:
            raise Injected

        return fail
    return lambda: os.kill(os.getpid(), getattr(signal, kind))


def at_work(run: Path) -> list[int]:
    """Return who computes for a run at this moment, by what they say."""
    found = []
    for told in run.rglob("*.job/running.json"):
        pid = json.loads(told.read_text())["pid"]
        if not told.with_name("result.json").exists() and Path(f"/proc/{pid}").exists():
            found.append(pid)
    return found


def outcome(run: Path) -> dict[str, Any]:
    """Return all that two runs must have in common: weights, tables without timings, events without restarts."""
    weights = {str(p.relative_to(run)): load_file(p) for p in sorted(run.rglob("*.safetensors"))}
    table = [line.split(",") for line in (run / "compare.csv").read_text().splitlines()]
    timed = [i for i, name in enumerate(table[0]) if MEASURED.search(name)]
    return {
        "weights": {f: {k: v.tobytes() for k, v in tensors.items()} for f, tensors in weights.items()},
        "table": [[cell for i, cell in enumerate(row) if i not in timed] for row in table],
        "frames": {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*.extxyz"))},
        "events": list(dict.fromkeys(history(run))),
        "left": [str(p.relative_to(run)) for p in run.rglob("*") if LEFT.search(p.name)],
    }


def history(run: Path) -> Iterator[str]:
    """Yield what happened. A stage that was found finished is one that finished; what is said again counts once."""
    for event in read_events(run / "events.jsonl"):
        if event.kind == "stage" and event.name != "started":
            yield f"{event.stage} is whole"
        elif event.kind == "metric" and event.stage != "speed":
            yield f"{event.stage} {event.name} {event.step} {event.value!r}"
        elif event.kind == "row":
            told = {key: value for key, value in event.data["metrics"].items() if not MEASURED.search(key)}
            yield f"{event.name} {json.dumps(told, sort_keys=True)}"
        elif event.kind in ("note", "artifact") and not any(words in event.name for words in OF_THE_DISTURBED):
            yield f"{event.stage} {event.name}"


def torture(
    n_points: int, folder: Path, say: Callable[[str], None], *, processes: int = 1, place: str = "here"
) -> dict[str, Any]:  # fmt: skip
    """Return what came of `n_points` points, spread evenly over the run; kinds take turns.

    place: where stages are computed, see `placed.place`.
    """
    kinds = KINDS if place == "here" else (*KINDS, WORKER)
    SIZES.update(placed(place, folder))
    if place != "here":
        SIZES["compute"] |= {"retries": 5}
    if (folder / "place.yaml").exists():
        SIZES["compute"] |= {"parsl": str(folder / "place.yaml")}
    (folder / "data").mkdir()
    write_alloy(folder / "data")
    straight = _new(folder, "straight")
    points = Points()
    assert fork(straight, points) == 0
    there = int((straight / "points").read_text())
    expected = outcome(straight / "run")
    n_points = min(n_points, there)
    asked = [
        (1 + (2 * index + 1) * there // (2 * n_points), kind)
        for index, kind in zip(range(n_points), itertools.cycle(kinds), strict=False)
    ]
    shares = [folder / f"share-{i}.json" for i in range(processes)]
    workers = [_share(asked[i::processes], file, expected, folder, say) for i, file in enumerate(shares)]
    assert [os.waitpid(worker, 0)[1] for worker in workers] == [0] * processes
    came = [one for file in shares for one in json.loads(file.read_text())]
    done = collections.Counter(name for _, names in came for name in names)
    return {"points_there": there, "failures": [failure for failure, _ in came if failure], **done}


def _share(
    points: list[tuple[int, str]], file: Path, expected: dict[str, Any], folder: Path, say: Callable[[str], None]
) -> int:
    """Disturb runs at `points` in a fork, which writes what came of it to `file`; return its process."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        file.write_text(json.dumps([disturb(*point, expected, folder, say) for point in points]))
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must never return to its parent's stack
        traceback.print_exc()
    finally:
        os._exit(code)


def disturb(
    at: int, kind: str, expected: dict[str, Any], folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, Any] | None, list[str]]:
    """Disturb a run at a point and resume it. Return what went wrong, if anything, and what to count."""
    place = _new(folder, f"{at}-{kind}")
    code = fork(place, Points(at, deed(kind, place / "run")))
    # a signal that is no SIGKILL may come so late that no safe point is left
    stopped = code == EXPECTED[kind] or (code == 0 and kind in ("SIGTERM", "SIGINT"))
    again = fork(place, Points())
    equal = again == 0 and alike(outcome(place / "run"), expected)
    counted = ["points", kind, *(["resumed"] if again == 0 else []), *(["equal"] if equal else [])]
    if stopped and equal:
        shutil.rmtree(place)
        return None, counted
    say(f"point {at} {kind}: exit code {code}, then {again}; equal: {equal}")
    return {"point": at, "kind": kind, "code": code, "again": again, "folder": str(place)}, counted


def alike(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether two runs have come to the same; in which order, only where nothing goes side by side."""
    if SIZES["compute"]["place"] != "here":
        found, expected = (one | {"events": sorted(one["events"])} for one in (found, expected))
    return found == expected


def _new(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    write_recipe(place, folder / "data", **SIZES)
    return place


def section(found: dict[str, Any], took_s: float, place: str) -> str:
    """Return the summary as it stands in docs/reliability.md under "Killed anywhere"."""
    kinds = ", ".join(f"{found[kind]} {kind}" for kind in (*KINDS, WORKER) if kind in found)
    return f"""Made by `scripts/torture --points N --place {place} --report docs/reliability.md`.
A tiny but real run (two iterations, every stage) is disturbed once at a point where something reaches the disk (before
an fsync, before or after a rename), then resumed by the same command.

| | |
|---|---|
| points in the run | {found["points_there"]} |
| points disturbed | {found["points"]} ({kinds}) |
| resumed to the end | {found["resumed"]} |
| weights, pools, tables and event log equal to the undisturbed run's | {found["equal"]} |
| minutes | {took_s / 60:.0f} |

Weights of every student and all frames are compared bitwise, the table without its timings, the event log without its
marks of restarts: an event that is said again counts once, and a stage found finished counts as finished.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1, help="runs at a time")
    parser.add_argument("--place", choices=("here", "processes", "parsl"), default="here", help="where stages go")
    parser.add_argument("--report", type=Path, help="write the summary here")
    parser.add_argument("--keep", type=Path, help="work here, and leave what failed")
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    md.engine.COMMIT_EVERY_S = 0.0  # every step of MD is a point
    registry.backend("mace")
    start = time.monotonic()
    place = asked.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    place.mkdir(parents=True, exist_ok=True)
    found = torture(
        asked.points, place, lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201
        processes=asked.processes, place=asked.place,
    )  # fmt: skip
    print(json.dumps(found))  # noqa: T201
    if asked.report is not None:
        where = "" if asked.place == "here" else f", at the place {asked.place}"
        write_section(asked.report, f"Killed anywhere{where}", section(found, time.monotonic() - start, asked.place))
    if not found["failures"] and asked.keep is None:
        shutil.rmtree(place)
    return bool(found["failures"])


if __name__ == "__main__":
    sys.exit(main())
