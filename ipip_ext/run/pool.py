"""Jobs in processes of this machine: workers that are started when first needed, and take one job after another.

A worker that has imported torch and a backend has the next job's answer a tenth of a second later. One that dies costs
its job's work since the last checkpoint, and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ipip_ext.run import waiting
from ipip_ext.run.outside import RESULT, Dispatch
from ipip_ext.run.processes import SideProcess, end_all
from ipip_ext.run.stage import Call

_MODULE = "ipip_ext.run.pool"
_EXECUTOR = "processes"


class Pool:
    """As many workers as `workers`; see `outside.Place`. root: the run folder."""

    def __init__(self, root: Path, workers: int) -> None:
        self._root, self._size = root, workers
        self._idle: list[SideProcess] = []
        self._at_work: dict[int, _Work] = {}

    def executor_of(self, call: Call) -> str:  # noqa: ARG002 - there is but one
        """Return the name of the only executor."""
        return _EXECUTOR

    def has_room(self, executor: str) -> bool:  # noqa: ARG002
        """Return whether a worker is idle or may be started."""
        for pid, work in list(self._at_work.items()):
            if work.is_done:
                del self._at_work[pid]
                self._idle.append(work.worker)
        return len(self._at_work) < self._size

    def start(self, request: Path, executor: str) -> _Work:  # noqa: ARG002
        """Hand a request to an idle worker, or to a new one."""
        idle = [worker for worker in self._idle if worker.poll() is None]
        worker = idle.pop(0) if idle else SideProcess(_MODULE, is_asked=True)
        self._idle = idle
        worker.ask(str(request.absolute()))
        work = _Work(worker, request)
        self._at_work[worker.pid] = work
        return work

    def tell(self, waiting_for: Sequence[str], running: Mapping[str, Dispatch]) -> None:
        """Write down what waits and what runs."""
        waiting.write(self._root, waiting_for, running)

    def stop(self) -> None:
        """End all workers; what they have kept is kept."""
        every = [*self._idle, *(work.worker for work in self._at_work.values())]
        end_all({worker.pid: worker for worker in every})
        waiting.remove(self._root)


class _Work:
    """A worker's work on a request; see `outside.Job`."""

    def __init__(self, worker: SideProcess, request: Path) -> None:
        self.worker, self._result = worker, request.with_name(RESULT)

    @property
    def where(self) -> str:
        return f"process {self.worker.pid}"

    @property
    def is_done(self) -> bool:
        """Whether the worker has left a result, or has ended."""
        return self.is_gone() or self._result.exists() or not self._result.parent.exists()

    def is_gone(self) -> bool:
        return self.worker.poll() is not None

    @property
    def fate(self) -> str:
        return self.worker.fate


def main() -> None:
    """Be a worker: carry out the requests whose paths come in, a line each."""
    from ipip_ext.run.job import serve

    for line in sys.stdin:
        if not serve(Path(line.rstrip("\n"))):
            return


if __name__ == "__main__":
    main()
