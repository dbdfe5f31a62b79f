"""The tensor of the simulated GPU: a wrapper around memory of the CPU."""

from typing import Any, NoReturn

import torch
from torch import Tensor

GPU = torch.device("cuda", 0)
BACKEND = "simulated"
"""The name of the device in C++: autograd needs one that there is, and torch has a spare one for foreign backends."""


def is_gpu(device: object) -> bool:
    """Whether this is the simulated device, by either of its names."""
    return isinstance(device, torch.device) and device.type in (GPU.type, BACKEND)


class GpuTensor(Tensor):
    """A tensor on the simulated GPU; every operator on it goes through `device.run`."""

    memory: Tensor
    """Its numbers, on the CPU, with its shape and strides."""

    @staticmethod
    def __new__(cls, memory: Tensor, requires_grad: bool = False) -> "GpuTensor":
        """A tensor on the device around `memory`, which is not copied."""
        tensor = Tensor._make_wrapper_subclass(
            cls,
            memory.size(),
            strides=memory.stride(),
            storage_offset=memory.storage_offset(),
            dtype=memory.dtype,
            layout=memory.layout,
            device=torch.device(BACKEND, 0),
            requires_grad=requires_grad,
        )
        tensor.memory = memory
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from simulated_gpu.device import run  # there, tensors of this class are made

        return run(operator, args, kwargs or {})

    def get_device(self) -> int:
        return GPU.index

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """As torch does: a tensor that is on the device already is not copied."""
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        more = {"non_blocking": non_blocking, "copy": kwargs.get("copy", False), "memory_format": memory_format}
        place = {} if device is None or is_gpu(device) else {"device": device}
        return super().to(**place, dtype=dtype or self.dtype, **more)

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        return self

    def numpy(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def tolist(self) -> list[Any]:
        return self.cpu().tolist()

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_moved(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_moved(index), value)

    def __deepcopy__(self, memo: dict[int, Any]) -> "GpuTensor":
        copy = type(self)(self.memory.clone(), self.requires_grad)
        copy.__dict__.update({name: value for name, value in self.__dict__.items() if name != "memory"})
        return copy

    def __repr__(self, *args: Any, **kwargs: Any) -> str:
        return f"GpuTensor({self.memory!r})"


def _moved(index: Any) -> Any:
    """An index with its host tensors on the device; C++ would look for them in the device's memory."""
    if isinstance(index, tuple):
        return tuple(map(_moved, index))
    on_host = isinstance(index, Tensor) and not isinstance(index, GpuTensor)
    return index.to(GPU) if on_host and index.dim() else index
