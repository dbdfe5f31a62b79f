"""Weights as one flat array, which travels from the learner to the actors and gives a run its hash.

The array holds every floating parameter and buffer in the order of `state_dict`, in logical (contiguous) layout.
Loading copies in place, so a network keeps its strides (channels_last) and its bits.
"""

import copy
import warnings
from collections.abc import Collection, Iterator
from hashlib import sha256
from typing import TypeAlias

import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor, nn

Nets: TypeAlias = dict[str, nn.Module]
"""The networks of a recipe by name; frozen ones have requires_grad False."""
FlatWeights: TypeAlias = Float32[ndarray, " _"]
"""The weights of networks as one array."""


def device_of(nets: Nets) -> torch.device:
    """The device of the networks' parameters."""
    return next(p for net in nets.values() for p in net.parameters()).device


def to_device(host: Tensor, device: torch.device | str) -> Tensor:
    """A host tensor on a device; to a GPU it goes from pinned memory, which the host does not wait for."""
    if torch.device(device).type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


def partition(nets: Nets, names: Collection[str]) -> tuple[Nets, Nets]:
    """The networks that `names` does not contain, and those that it does."""
    return {k: v for k, v in nets.items() if k not in names}, {k: v for k, v in nets.items() if k in names}


def flatten(nets: Nets) -> FlatWeights:
    """All floating parameters and buffers, by name of the network, as a new float32 array."""
    tensors, i = [t.detach() for t in _floating(nets)], 0
    if tensors[0].device.type != "cpu":  # few calls count more than the memory of copies in another layout
        return torch.cat([t.flatten().float() for t in tensors]).cpu().numpy()
    flat = torch.empty(sum(t.numel() for t in tensors), dtype=torch.float32)
    for t in tensors:
        flat[i : i + t.numel()].view(t.shape).copy_(t)
        i += t.numel()
    return flat.numpy()


@torch.no_grad()
def load(nets: Nets, flat: FlatWeights) -> None:
    """Copy a flat array into the networks, in place. Raises ValueError where the sizes differ.

    The whole array goes to a device at once.
    """
    own = list(_floating(nets))
    size = sum(t.numel() for t in own)
    if flat.size != size:
        raise ValueError(f"{flat.size} weights cannot be loaded into networks with {size}")
    with warnings.catch_warnings():  # of arrays in the object store, which must not be written; nothing here does
        warnings.simplefilter("ignore", UserWarning)
        source, i = torch.from_numpy(flat), 0
    source = to_device(source, own[0].device) if own else source
    for t in own:
        t.copy_(source[i : i + t.numel()].view(t.shape))
        i += t.numel()


def digest(nets: Nets) -> str:
    """SHA-256 of the flat array, in hexadecimal."""
    return sha256(flatten(nets).data).hexdigest()


def eval_copy(nets: Nets) -> Nets:
    """Copies of the networks for moving chains: in eval mode, without gradients of parameters."""
    return without_gradients({name: copy.deepcopy(net) for name, net in nets.items()})


def without_gradients(nets: Nets) -> Nets:
    """The networks themselves, in eval mode and without gradients of parameters."""
    return {name: net.eval().requires_grad_(False) for name, net in nets.items()}


def _floating(nets: Nets) -> Iterator[Tensor]:
    for name in sorted(nets):
        yield from (t for t in nets[name].state_dict().values() if t.is_floating_point())
