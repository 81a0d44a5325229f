"""A piece of work on a GPU, recorded as a CUDA graph.

A small network is many hundred kernels, and launching them one by one takes many times longer than they do. Those of a
recording are launched at once.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import torch

TRIES = 2
"""How often something is tried to be recorded that could not be."""

_WARM_UPS = 4  # TorchScript compiles for new shapes in the first calls, which can't be recorded


def can_record(device: str) -> bool:
    """Tell whether there is something to gain, and nothing that was asked for to lose.

    Recorded or not differs in rounding, which whoever asks for deterministic algorithms must not see.
    """
    return torch.device(device).type == "cuda" and not torch.are_deterministic_algorithms_enabled()


def capture(
    work: Callable[[], tuple[torch.Tensor, ...]], device: torch.device, prepare: Callable[[], None] = lambda: None
) -> tuple[Callable[[], None], tuple[torch.Tensor, ...]]:
    """Return what does `work` again, on tensors of the same places and shapes, and its results, in the same places too.

    prepare: called before each time that it is done here. Raises whatever CUDA says if it can't be recorded.
    """
    with torch.cuda.device(device):
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):
                prepare()
                work()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        prepare()
        with _no_garbage(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            results = work()
    return graph.replay, results


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Free what earlier recordings hold of the memory, and free nothing meanwhile: that would end a recording."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
