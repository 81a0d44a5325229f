"""Break inputs, by hand and by many seeded mutations, and count what becomes of them.

python tests/torture_inputs.py --inputs 2000 --report docs/reliability.md
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import corpus
from alloy import write_alloy, write_recipe
from click.testing import CliRunner
from pages import write_section

from ipip_ext.cli.main import main as command_line

_OF_A_RUN = 4
"""One mutation in so many is of a finished run; its readers are slower."""


def make(folder: Path) -> tuple[Path, Path]:
    """Write a task, and the same with its finished run; return both folders."""
    task, finished = folder / "task", folder / "finished"
    (task / "data").mkdir(parents=True)
    write_alloy(task / "data")
    write_recipe(task, Path("data"))
    shutil.copytree(task, finished)
    with contextlib.chdir(finished):
        done = CliRunner().invoke(command_line, ["run", "recipe.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return task, finished


def judge_all(cases: Iterable[corpus.Case], folder: Path, counts: collections.Counter[str], kind: str) -> None:
    for case in cases:
        counts[f"{kind}, tried"] += 1
        try:
            counts[f"{kind}, {'refused' if corpus.judge(case, folder) else 'valid'}"] += 1
        except corpus.Wrong as error:
            print(error, file=sys.stderr, flush=True)  # noqa: T201
            counts["wrong"] += 1


def section(counts: collections.Counter[str], seed: int) -> str:
    """Return the summary as it stands in docs/reliability.md under "Bad input at scale"."""
    kinds = {
        "hand": "broken by hand",
        "task": "mutations of recipe and frames",
        "run": "mutations of a finished run and its models",
    }
    rows = [
        f"| {said} | " + " | ".join(str(counts[f"{kind}, {what}"]) for what in ("tried", "refused", "valid")) + " |"
        for kind, said in kinds.items()
    ]
    return f"""Made by `scripts/torture --inputs N --report docs/reliability.md` (seed {seed}). One file of a valid
task or of a finished run is damaged, and the command that reads it is called: `check` (without its forecast of the
cost), `evaluate`, `md`, `run`, `status`, `verify`, `compare` or `track`. To be refused cleanly means one line that
names the file or the recipe key, exit code 2 (1 where `verify` finds a claim wrong), every file as it was, no
traceback, no hang. A mutation may leave an input valid; then it must be accepted. Lines of an event log that are no
events are passed over, since a kill may cut one.

| | tried | refused cleanly | still valid |
|---|---|---|---|
{chr(10).join(rows)}

{counts["wrong"]} inputs ended otherwise. `tests/test_corpus.py` does the same with fewer mutations on every change.
`scripts/fuzz` searches on, guided by coverage; what it found stands among the cases by hand."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000, help="mutations; those by hand come on top")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="write the summary here")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="torture-") as place:
        task, finished = make(Path(place))
        judge_all(corpus.by_hand(), task, counts, "hand")
        judge_all(corpus.by_hand_of_a_run(), finished, counts, "hand")
        n_of_run = asked.inputs // _OF_A_RUN
        judge_all(corpus.mutated(asked.inputs - n_of_run, asked.seed), task, counts, "task")
        judge_all(corpus.mutated_of_a_run(n_of_run, asked.seed, thorough=True), finished, counts, "run")
    print(dict(counts))  # noqa: T201
    if asked.report is not None:
        write_section(asked.report, "Bad input at scale", section(counts, asked.seed))
    return bool(counts["wrong"])


if __name__ == "__main__":
    sys.exit(main())
