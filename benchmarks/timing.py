"""Two sides, measured in turns: rows of name, ours, other, ratio and unit."""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

import psutil
import torch

BUSY = 0.25
"""Cores that others may keep busy while something is timed."""


class Row(NamedTuple):
    name: str
    ours: float
    other: float
    """Of the side it is compared with: a library, a plain loop, or a limit; the name says which."""
    ratio: float
    """How many times better ours is: above 1 where ours is faster (or smaller), whatever the unit."""
    unit: str


def faster(name: str, unit: str, ours: float, other: float) -> Row:
    """A row of which more is better."""
    return Row(name, ours, other, ours / other, unit)


def smaller(name: str, unit: str, ours: float, other: float) -> Row:
    """A row of which less is better."""
    return Row(name, ours, other, other / ours, unit)


def in_turns(sides: dict[str, Callable[[], object]], rounds: int, device: str = "cpu") -> dict[str, float]:
    """Seconds that each side takes: the least of so many rounds, in which every side has its turn after one to warm up.

    On a CPU they are CPU seconds of this process, which other processes disturb least; on a GPU, wall seconds.
    """
    clock = time.perf_counter if device == "cuda" else time.process_time
    least = dict.fromkeys(sides, float("inf"))
    for turn in range(rounds + 1):
        for name, side in sides.items():
            began = clock()
            side()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                least[name] = min(least[name], clock() - began)
    return least


def busy() -> float:
    """Cores that other processes keep busy, measured for a second."""
    own = psutil.Process()
    before, mine = psutil.cpu_times(), own.cpu_times()
    time.sleep(1)
    after, now = psutil.cpu_times(), own.cpu_times()
    idle = {"idle", "iowait", "guest", "guest_nice", "steal"}
    used = sum(getattr(after, name) - getattr(before, name) for name in after._fields if name not in idle)
    return max(0.0, used - (now.user + now.system - mine.user - mine.system))


def quiet() -> None:
    """Raise RuntimeError on a machine too busy to time anything on; EBM_BENCH_BUSY=1 times all the same."""
    if not os.environ.get("EBM_BENCH_BUSY") and (others := busy()) > BUSY:
        raise RuntimeError(f"others keep {others:.2f} cores busy: nothing is timed on a busy machine")
