"""An operator, what it is called with, and whether a GPU would refuse it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simulated_gpu import generators
from simulated_gpu.tensor import GpuTensor, is_gpu

COPIES = ("copy_", "_to_copy")
INDEXING = ("index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index")
"""Operators whose indices may be on the host."""
BOTH = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
RESIZING = ("resize_", "set_")
"""Operators that give a tensor other memory, which its wrapper cannot follow."""


class Call(NamedTuple):
    """A call of an operator."""

    operator: Any
    name: str
    """Without namespace and overload."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    on_gpu: list[GpuTensor]
    on_host: list[Tensor]
    """With a dimension or more: numbers travel with the call."""
    generator: Any

    @classmethod
    def of(cls, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """Sort the arguments by where they are."""
        on_gpu, on_host, generator = list[GpuTensor](), list[Tensor](), None
        for value in _values((*args, *kwargs.values())):
            if isinstance(value, GpuTensor):
                on_gpu.append(value)
            elif isinstance(value, Tensor):
                on_host += [value] if value.dim() else []
            elif isinstance(value, torch._C.Generator):
                generator = value
        return cls(operator, operator.overloadpacket.__name__, args, kwargs, on_gpu, on_host, generator)

    @property
    def names_gpu(self) -> bool:
        """Whether it asks for a result on the GPU by name."""
        return is_gpu(self.kwargs.get("device"))

    @property
    def is_on_gpu(self) -> bool:
        """Whether its result is on the GPU."""
        device = self.kwargs.get("device")
        return bool(self.on_gpu) if device is None else is_gpu(device)

    def why_refused(self) -> str:
        """What torch says to it; empty where it may run."""
        if self.generator is not None and generators.is_on_gpu(self.generator) != self.is_on_gpu:
            there, here = ("cuda", "cpu") if self.is_on_gpu else ("cpu", "cuda")
            return f"Expected a '{there}' device type for generator but found '{here}'"
        if not self.on_gpu or self.name in COPIES:
            return ""
        if self.name not in INDEXING:
            changes_host = self.name.endswith("_") and isinstance(self.args[0], Tensor) and not _is_on_gpu(self.args[0])
            return f"{BOTH} ({self})" if self.on_host or changes_host else ""
        if not _is_on_gpu(self.args[0]):
            return f"indices should be either on cpu or on the same device as the indexed tensor (cpu) ({self})"
        values = [value for value in self.args[2:3] if value.dim() and not _is_on_gpu(value)]
        return f"{BOTH} ({self})" if values else ""

    def __str__(self) -> str:
        return str(self.operator)


def _is_on_gpu(tensor: Tensor) -> bool:
    return isinstance(tensor, GpuTensor)


def _values(arguments: tuple[Any, ...]) -> Iterator[Any]:
    for value in arguments:
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value
