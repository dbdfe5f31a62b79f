"""Langevin chains as others run them: the loop of the papers' code, and the samplers of torchebm and ebmkit.

Each takes an energy whose parameters are frozen, states, steps, drift and noise, and returns the states moved.
"""

import importlib.util
import math
from collections.abc import Callable

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def plain(energy, x, steps, drift, noise):
    x = x.clone().requires_grad_()
    for _ in range(steps):
        (slope,) = torch.autograd.grad(energy(x).sum(), x)
        x.data = x.data - drift * slope + noise * torch.randn_like(x)
    return x.detach()


def torchebm(energy, x, steps, drift, noise):
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    class Model(BaseModel):
        def forward(self, x):
            return energy(x)

    # its noise is noise_scale sqrt(2 step_size)
    scale = noise / math.sqrt(2 * drift)
    sampler = LangevinDynamics(Model(device=x.device), step_size=drift, noise_scale=scale, device=x.device)
    return sampler.sample(x=x, n_steps=steps)


def ebmkit(energy, x, steps, drift, noise):
    from ebm.samplers import LangevinDynamics

    return LangevinDynamics(step_size=drift, steps=steps, noise_scale=noise).sample(energy, x)


def peers() -> dict[str, Callable]:
    """Those installed; one line about the others."""
    modules = {"torchebm": ("torchebm", torchebm), "ebmkit": ("ebm", ebmkit)}
    found = {name: run for name, (module, run) in modules.items() if importlib.util.find_spec(module)}
    if len(found) < len(modules):
        missing = ", ".join(sorted(set(modules) - set(found)))
        print(f"not installed, so left out: {missing} (make bench-peers)")
    return found
