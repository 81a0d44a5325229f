"""One writer for a run folder: a lock file that names its holder and outlives no crash.

A holder is a process of a machine: host, machine id, boot, process id and when that process began. Whether it is
alive can be told on its own machine, so a lock that a crash left behind is known there by itself; age says nothing.
From another machine it can't be told, so there the lock holds until its holder gives it back, with one exception: a
batch system that has requeued a job has ended its processes before.

The file is made by link(2), which is atomic on local and on network file systems (NFS too, as open(2) advises);
where links can't be made, by O_EXCL.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import platform
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ipip_ext.errors import WorkspaceError

LOCK = "lock.json"

_WRITING_S = 5.0
"""Seconds within which a lock made by O_EXCL has its content."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. started: when the process began, as its system tells it. space: of its process ids."""

    id: str
    host: str
    machine: str
    boot: str
    space: str
    pid: int
    started: str
    user: str
    since: str
    command: str
    job: str
    restarts: int

    @property
    def is_gone(self) -> bool:
        """Whether its process is known to have ended."""
        here = _myself()
        if self.job and self.job == here.job and here.restarts > self.restarts:
            return True
        if (self.host, self.machine) != (here.host, here.machine):
            return False
        if self.boot != here.boot:
            return True
        return self.space == here.space and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host} since {self.since}: {self.command}"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[str]:
    """Hold the lock of `folder`, which must exist, for the time of a with block; it has the lock's id.

    Raises WorkspaceError that names the holder if another process has it, or if the file can't be written.
    """
    path, me = folder / LOCK, _myself()
    try:
        _take(path, me)
    except OSError as error:
        raise WorkspaceError(f"{path}: can't be written ({error.strerror}); use --workdir for another place.") from None
    try:
        yield me.id
    finally:
        _give_back(path, me)


def is_held_by(folder: Path, owner: str) -> bool:
    """Return whether the lock of `folder` is still the one whose id is `owner`; True while that can't be told."""
    try:
        holder = read(folder / LOCK)
    except WorkspaceError:
        return True
    return holder is not None and holder.id == owner


def refuse_if_held(folder: Path) -> None:
    """Raise WorkspaceError if another process holds the lock of `folder`; writes nothing."""
    holder = read(folder / LOCK)
    if holder is not None and not holder.is_gone:
        raise _in_use(folder / LOCK, holder)


def is_ours(name: str) -> bool:
    """Return whether a file of this name in a run folder is a lock, or was left by taking one."""
    return name == LOCK or name.startswith(f"{LOCK}.")


def read(path: Path) -> Holder | None:
    """Return who holds the lock `path`, None if nobody does. Raises WorkspaceError if it can't be understood."""
    deadline = time.monotonic() + _WRITING_S
    while True:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            text = "?"
        if text or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    try:
        told = json.loads(text)
        return Holder(**{field.name: told[field.name] for field in fields(Holder)})
    except (ValueError, KeyError, TypeError):
        raise WorkspaceError(f"{path}: is no lock; if no run is at work there, delete it.") from None


def _take(path: Path, me: Holder) -> None:
    while not _make(path, me):
        holder = read(path)
        if holder is None:  # given back just now
            continue
        if not holder.is_gone:
            raise _in_use(path, holder)
        # only who holds this second lock, which is named by the first, may take that very one away
        breaker = path.with_name(f"{LOCK}.{holder.id}")
        _take(breaker, me)
        try:
            now = read(path)
            if now is not None and now.id == holder.id:
                path.unlink()
        finally:
            _give_back(breaker, me)


def _make(path: Path, me: Holder) -> bool:
    """Return whether the lock is ours now; False if it was there."""
    part = path.with_name(f"{LOCK}.{uuid.uuid4().hex}.part")
    content = json.dumps(asdict(me), indent=1)
    try:
        part.write_text(content, encoding="utf-8")
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            return _make_exclusively(path, content)
        return part.stat().st_nlink == 2  # an answer lost on the way from an NFS server looks like a failure
    finally:
        part.unlink(missing_ok=True)


def _make_exclusively(path: Path, content: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _give_back(path: Path, me: Holder) -> None:
    with contextlib.suppress(OSError, WorkspaceError):
        holder = read(path)
        if holder is not None and holder.id == me.id:
            path.unlink()


def _in_use(path: Path, holder: Holder) -> WorkspaceError:
    remedy, here = "wait for it, or stop it", _myself()
    if (holder.host, holder.machine, holder.space) != (here.host, here.machine, here.space):
        remedy += f"; if it is gone, which can't be told from here, delete {path}"
    return WorkspaceError(f"{path.parent}: is in use by {holder}; {remedy}.")


def _myself() -> Holder:
    return Holder(
        id=uuid.uuid4().hex,
        host=platform.node(),
        machine=_text("/etc/machine-id"),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        space=_space(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        user=_user(),
        since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        job=os.environ.get("SLURM_JOB_ID", ""),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0),
    )


def _started(pid: int) -> str:
    """Return when a process began, in whatever words its system has; "" for one that has ended."""
    if Path("/proc/self/stat").exists():
        told = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name before may hold anything
        return told[19] if told and told[0] not in "ZX" else ""  # a zombie writes no more
    said = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603
    return said.stdout.strip()


def _space() -> str:
    """Return the name of this machine's space of process ids: a container has its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
