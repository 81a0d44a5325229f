"""A device in name, to see without a GPU what one would see: where tensors are, and what travels.

Its tensors hold ordinary ones. As on a GPU, an operation on them and on a tensor of the CPU fails, unless that is a
lone number; what goes to and fro is counted. It can't show the speed or the rounding of a GPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "fake"
CALLS: Counter[str] = Counter()
"""How often each operation ran on the device, by name; `transfer` counts copies from and to it."""

_MOVES = ("aten::copy_", "aten::_to_copy")


class OnDevice(torch.Tensor):
    """A tensor of the device. raw: the ordinary one that it holds."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> OnDevice:
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls, raw.shape, strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        made.raw = raw
        return made

    def tolist(self) -> Any:
        """Return the numbers, as a GPU's tensor does; PyTorch refuses it to a class of ours."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, op: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Sees operations that begin on the CPU too: what is made on the device or moves there."""

    def __torch_dispatch__(self, op: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


def plug_in() -> None:
    """Let this process have the device, for good."""
    _setup_privateuseone_for_python_backend(NAME)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) moves where it can be seen
    _Everywhere().__enter__()


def _run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = op._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    target = kwargs.get("device")
    stays = bool(ours) if target is None else torch.device(target).type == NAME
    if ours and name not in _MOVES:
        CALLS[name] += 1
        if any(tensor.dim() for tensor in tensors if not isinstance(tensor, OnDevice)):
            raise RuntimeError(f"{name}: expected all tensors on the same device, but found {NAME} and cpu")
    if name == "aten::copy_":  # into the first from the second
        stays = isinstance(tensors[0], OnDevice)
    if name in _MOVES and isinstance(tensors[-1], OnDevice) != stays:
        CALLS["transfer"] += 1
    if stays and target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(tensor.raw): tensor for tensor in ours}

    def inside(value: Any) -> Any:
        return value.raw if isinstance(value, OnDevice) else value

    def outside(value: Any) -> Any:
        if type(value) is not torch.Tensor or not stays:
            return value
        return known.get(id(value)) if id(value) in known else OnDevice(value)

    return tree_map(outside, op(*tree_map(inside, args), **tree_map(inside, kwargs)))
