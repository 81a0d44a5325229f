"""What proves a place before anything depends on it: a worker says what it is, or does nothing, and that is timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipip_ext.run.stage import Context, Outputs


def look(folder: str) -> dict[str, Any]:
    """Return what this process is: host, Python, versions, device, and whether it sees `folder`."""
    import importlib.metadata
    import sys

    import torch

    import ipip_ext
    from ipip_ext.run import provenance

    return {
        "host": provenance.host(),
        "python": f"{sys.version.split()[0]} ({sys.executable})",
        "torch": torch.__version__,
        "mace-torch": importlib.metadata.version("mace-torch"),
        "ipip-mace": ipip_ext.__version__,
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "sees": Path(folder).is_dir(),
    }


def idle(_ctx: Context, number: int) -> Outputs:
    """Be a stage that takes no time."""
    return {"number": number}
