"""Generators of either device. Those of the simulated GPU draw what the CPU's would."""

import torch

from simulated_gpu.tensor import GPU, is_gpu

_on_gpu: set[int] = set()
"""Addresses of the generators of the simulated GPU, since operators see them in new wrappers."""


class Generator(torch._C.Generator):
    """Stands for `torch.Generator`."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        generator = super().__new__(cls)
        if is_gpu(torch.device(device)):
            _on_gpu.add(generator._cdata)
        return generator

    def __init__(self, device: torch.device | str = "cpu"):
        pass

    def __del__(self) -> None:
        _on_gpu.discard(self._cdata)

    @property
    def device(self) -> torch.device:
        return GPU if is_on_gpu(self) else torch.device("cpu")


def is_on_gpu(generator: torch._C.Generator) -> bool:
    """Whether a generator is of the simulated GPU."""
    return generator._cdata in _on_gpu
