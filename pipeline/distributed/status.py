"""A progress bar on the driver for work that a Ray Train worker does.

Ray's own tqdm repeats bars and blank lines where workers print, so the worker tells an actor, and the driver draws.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

INTERVAL = 0.5
"""Seconds between two looks, and between two words of the worker."""


class StatusActor:
    """What the worker last said."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.fault: dict[str, Any] = {}

    def fail(self, fault: dict[str, Any]) -> None:
        """Say what ends the run; what is said first stays."""
        self.fault = self.fault or fault

    def failed(self) -> dict[str, Any]:
        """What ends the run; empty as long as nothing does."""
        return self.fault

    def write(self, said: dict[str, Any]) -> None:
        """Replace it."""
        self.said = said

    def read(self) -> dict[str, Any]:
        """Look at it."""
        return self.said


class RemoteProgress:
    """The worker's side; called as tqdm is."""

    def __init__(self, board: ActorHandle, total: int, desc: str, unit: str):
        self.board = board
        self.said: dict[str, Any] = {"total": total, "n": 0, "desc": desc, "unit": unit}
        self._next = 0.0

    def update(self, n: int = 1) -> None:
        """N units more are done."""
        self.said["n"] += n
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL
            self.board.write.remote(self.said)

    def set_description(self, desc: str, refresh: bool = True) -> None:
        """What stands before the bar."""
        self.said["desc"] = desc

    def close(self) -> None:
        """Tell no more."""
        ray.get(self.board.write.remote(self.said))


@contextmanager
def status_actor() -> Iterator[ActorHandle]:
    """A blackboard whose words are drawn as a bar while the block lasts."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # it must not be lost
    board = ray.remote(num_cpus=0, scheduling_strategy=here)(StatusActor).remote()
    stop = threading.Event()
    thread = threading.Thread(target=_draw, args=(board, stop), daemon=True)
    thread.start()
    try:
        yield board
    finally:
        stop.set()
        thread.join()
        ray.kill(board)


def _draw(board: ActorHandle, stop: threading.Event) -> None:
    bar = None
    while True:
        last = stop.is_set()
        said = ray.get(board.read.remote())
        if said:
            bar = bar or tqdm(total=said["total"], initial=said["n"], unit=said["unit"], mininterval=1.0)
            bar.total, bar.unit = said["total"], said["unit"]
            bar.set_description(said["desc"], refresh=False)
            bar.update(said["n"] - bar.n)
        if last:
            break
        stop.wait(INTERVAL)
    if bar:
        bar.close()
