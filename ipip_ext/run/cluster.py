"""Jobs on the executors of a place file, by Parsl: nodes of a cluster, or processes that it starts.

Parsl (Babuji et al., HPDC '19, doi:10.1145/3307681.3325400) asks the batch system for blocks of nodes, keeps workers on
them and hands requests out. Files go by the file system that all share, so a worker gets a path and leaves its result.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ipip_ext.errors import JobLost, RecipeError, did_you_mean
from ipip_ext.run import job, leftovers, probe, waiting
from ipip_ext.run.outside import HERE, Dispatch
from ipip_ext.run.place_file import Executors
from ipip_ext.run.stage import Call

FOLDER = "parsl"
"""Folder in the run's with what Parsl writes: its log, submitted scripts, the words of blocks."""


class Cluster:
    """The executors of a place file; see `outside.Place`. Blocks are asked for when the first stage goes out.

    root: the run folder. file: the place file. stages: name of a stage -> name of an executor.
    Raises RecipeError for a place file that can't be used.
    """

    def __init__(self, root: Path, file: Path, stages: Mapping[str, str]) -> None:
        self._root, self._stages = root, stages
        self.file = Executors.read(file)
        for stage, executor in stages.items():
            if executor != HERE and executor not in self.file.names:
                hint = did_you_mean(executor, self.file.names)
                raise RecipeError(f"compute.stages.{stage}: {file} has no executor {executor}.{hint}")
        self._kernel: Any = None
        self._told: dict[str, list[str]] = {}

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._root.absolute()

    def executor_of(self, call: Call) -> str:
        """Return the executor that the call itself, or `stages`, names; else the first one of the file."""
        kind = call.name.rsplit("/", 1)[-1]
        wanted = call.executor or self._stages.get(kind) or self._stages.get(call.stage.__name__) or self.file.names[0]
        if wanted != HERE and wanted not in self.file.names:
            raise RecipeError(
                f"executor {wanted}: {self.file.path} has no such executor.{did_you_mean(wanted, self.file.names)}"
            )
        return wanted

    def has_room(self, executor: str) -> bool:  # noqa: ARG002
        """Return True: what has no room waits in Parsl's queue."""
        return True

    def start(self, request: Path, executor: str) -> Submitted:
        """Hand a request to an executor's workers."""
        return Submitted(self.submit(executor, job.serve_here, str(request.absolute())), self, executor)

    def submit(self, executor: str, function: Any, *arguments: Any) -> Any:
        """Return the future of a call on a worker of `executor`."""
        if self._kernel is None:
            if re.search(r"\s", str(self.folder)):  # nobody would hear of a block whose script goes astray
                raise RecipeError(f"{self.folder}: Parsl's scripts need a path without blanks; use --workdir.")
            self._kernel = _kernel(self.file, self._root / FOLDER)
        return self._kernel.submit(
            function, app_args=arguments, executors=[executor], cache=False, ignore_for_cache=None, app_kwargs={}
        )

    def prove(self) -> dict[str, Any]:
        """Return by executor the future of what a worker of it says of itself; see `probe.look`."""
        return {name: self.submit(name, probe.look, str(self.folder)) for name in self.file.names}

    def blocks(self, executor: str) -> list[str]:
        """Return what the batch system calls the blocks of an executor."""
        known = self._kernel.executors[executor] if self._kernel is not None else None
        return [str(number) for number in dict(getattr(known, "blocks_to_job_id", {})).values()]

    def trouble(self, executor: str) -> str:
        """Return why an executor gets no blocks, "" if it does or may still."""
        known = self._kernel.executors[executor]
        return str(known.executor_exception) if known.bad_state_is_set else ""

    def tell(self, waiting_for: Sequence[str], running: Mapping[str, Dispatch]) -> None:
        """Write down what waits and what runs, and the blocks, for whoever has to end them if this process can't."""
        waiting.write(self._root, waiting_for, running)
        now = {name: self.blocks(name) for name in self.file.names}
        if self._kernel is not None and now != self._told:
            self._told = now
            leftovers.write(self._root, {name: (self.file.provider_of(name), ids) for name, ids in now.items()})

    def stop(self) -> None:
        """Cancel what was submitted and end Parsl."""
        if self._kernel is not None:
            self._kernel.cleanup()
            self._kernel = None
        waiting.remove(self._root)
        leftovers.forget(self._root)


class Submitted:
    """A call that Parsl has; see `outside.Job`."""

    def __init__(self, future: Any, cluster: Cluster, executor: str) -> None:
        self._future, self._cluster, self._executor = future, cluster, executor

    @property
    def where(self) -> str:
        """The blocks that it may run in."""
        blocks = ", ".join(self._cluster.blocks(self._executor))
        return f"job {blocks}" if blocks else "no block yet"

    def is_gone(self) -> bool:
        """Whether it has ended. Raises JobLost where it never can begin."""
        if not self._future.done():
            return False
        if trouble := self._cluster.trouble(self._executor):
            raise JobLost(
                f"executor {self._executor}: gets no nodes: {_words_of(trouble)}{_hint(trouble, self._cluster)}"
            )
        error = self._future.exception()
        if isinstance(error, JobLost):
            raise JobLost(f"executor {self._executor}: {error}.")
        if isinstance(error, ModuleNotFoundError):
            raise JobLost(
                f"executor {self._executor}: its Python has no {error.name}; let worker_init load an environment with"
                " ipip-mace."
            )
        return True

    @property
    def fate(self) -> str:
        """How it ended, where it has left nothing."""
        error = self._future.exception()
        return f"ended: {type(error).__name__}: {error}" if error is not None else "ended without a word"


def _kernel(file: Executors, folder: Path) -> Any:
    """Return Parsl at work with the executors of `file`. Raises RecipeError with Parsl's words."""
    from parsl.config import Config
    from parsl.dataflow.dflow import DataFlowKernel

    executors = file.build(_worker_init())
    settings: dict[str, Any] = {"strategy": "simple", "run_dir": str(folder), "exit_mode": "skip"} | dict(file.config)
    logging.getLogger("parsl").propagate = False  # it has a file of its own
    with _within_reach():
        try:
            return DataFlowKernel(Config(executors=executors, **settings))
        except Exception as error:
            raise RecipeError(f"{file.path}: Parsl can't start: {type(error).__name__}: {error}") from error


def _worker_init() -> str:
    """Return the shell line that makes a node find this Python's programs; what a place file says comes after it."""
    return f"export PATH={Path(sys.executable).parent}:$PATH"


@contextlib.contextmanager
def _within_reach() -> Iterator[None]:
    """Put this environment's programs in reach of Parsl, which starts its interchange by name."""
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    try:
        yield
    finally:
        os.environ["PATH"] = path


def _words_of(trouble: str) -> str:
    """Return what the batch system has said of a block that it refused, without Parsl's frame around it."""
    said = re.search(r"stderr=(.*?)(?= Error \d+:|$)", " ".join(trouble.split()))
    return said[1].strip() if said and said[1].strip() else " ".join(trouble.split())[:300]


def _hint(trouble: str, cluster: Cluster) -> str:
    """Return what may be amiss where a block began and its workers were never heard of."""
    if "failed to register" not in trouble:
        return ""
    return (
        f"; its workers ended before they were heard: do its nodes see {cluster.folder}, and does worker_init load an"
        f" environment with ipip-mace[parsl]? Their words stand in {cluster.folder / FOLDER}"
    )
