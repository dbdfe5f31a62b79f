"""Communication between ranks."""

import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

ALL_REDUCES = 3
"""How many `measure_all_reduce` takes the mean of."""


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


def measure_all_reduce(rank: int, ranks: int, place: str, numbers: int, seconds: float, device: torch.device) -> float:
    """Seconds of one all-reduce in a process group made for it alone; every rank calls this.

    Args:
        rank: of this process.
        ranks: how many there are.
        place: host:port where rank 0 lets the others find each other.
        numbers: float32 numbers that each rank gives.
        seconds: after which a call that waits for the others gives up.
        device: gloo on a CPU, nccl on a GPU.

    Raises:
        RuntimeError: ranks do not reach each other, or the sum is wrong.
    """
    backend, limit = "nccl" if device.type == "cuda" else "gloo", timedelta(seconds=seconds)
    dist.init_process_group(backend, init_method=f"tcp://{place}", rank=rank, world_size=ranks, timeout=limit)
    try:
        x = torch.full((numbers,), float(rank + 1), device=device)
        dist.all_reduce(x)  # connects
        if x[-1].item() != ranks * (ranks + 1) / 2:
            raise RuntimeError(f"the sum of 1 to {ranks} came out as {x[-1].item()}")
        began = time.perf_counter()
        for _ in range(ALL_REDUCES):
            dist.all_reduce(x)
        x[-1].item()  # waits for a GPU
        return (time.perf_counter() - began) / ALL_REDUCES
    finally:
        dist.destroy_process_group()
