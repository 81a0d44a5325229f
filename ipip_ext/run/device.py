"""Which device is meant, and what room there is beside a process."""

from __future__ import annotations

import os

from ipip_ext.errors import WorkspaceError


def resolve(wanted: str) -> str:
    """Return cpu, cuda or cuda:N; `auto` takes a GPU where there is one."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if count else "cpu"
    if wanted not in ("cpu", *(f"cuda:{i}" for i in range(count)), *(["cuda"] if count else [])):
        raise WorkspaceError(f"device: {wanted} is not there (torch sees {count or 'no'} GPUs); use auto or cpu.")
    return wanted


def room_beside(device: str, threads: int | None) -> int:
    """Return for how many processes of as many threads a CPU has cores beside this one; threads: None if unknown."""
    if device != "cpu" or threads is None:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, cores // threads - 1)
