"""Communication between ranks."""

from typing import Any

import torch
import torch.distributed as dist


def world() -> tuple[int, int]:
    """This process's rank, and the number of ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def gather(value: Any) -> list[Any]:
    """The values of all ranks, on each of them; a barrier."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool) -> bool:
    """Whether the flag is true on any rank, the same on all of them; a barrier."""
    if world()[1] == 1:
        return flag
    total = torch.tensor([float(flag)])  # on the host, where every group has gloo
    dist.all_reduce(total)
    return bool(total.item())
