"""Which device is meant."""

from __future__ import annotations

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
