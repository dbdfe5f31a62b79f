"""Random numbers of a device that the host draws, so that a real GPU computes with the CPU's noise.

A GPU's generators draw other numbers than the CPU's, and numbers could not be compared. Draws inside of CUDA graphs and
compiled code are not replaced.
"""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class HostNoise(TorchFunctionMode):
    """Within the block, what generators of a device would draw comes from generators on the host, of the same seeds."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device
        self.twins: dict[int, tuple[torch.Generator, torch.Generator]] = {}
        self.draws = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rng = kwargs.get("generator")
        if rng is not None and rng.device.type == self.device.type:
            self.draws += 1
            return self._draw(func, args, {**kwargs, "generator": self._twin(rng)})
        if func is functional.dropout and args[0].device.type == self.device.type:
            return args[0] * func(torch.ones(args[0].shape), *args[1:], **{**kwargs, "inplace": False}).to(self.device)
        return func(*args, **kwargs)

    def _twin(self, rng: torch.Generator) -> torch.Generator:
        """The generator on the host that stands for one of the device; both stay, so that no address comes again."""
        if id(rng) not in self.twins:
            self.twins[id(rng)] = rng, torch.Generator().manual_seed(rng.initial_seed())
        return self.twins[id(rng)][1]

    def _draw(self, func: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(args[0], torch.Tensor) and func.__name__.endswith("_"):  # in place, in the order of memory
            drawn = func(torch.empty_like(args[0], device="cpu"), *args[1:], **kwargs)
            return args[0].copy_(drawn)
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        here = (one.cpu() if isinstance(one, torch.Tensor) else one for one in args)
        return func(*here, **kwargs).to(self.device)
