"""Progress and faults of learners, shared through an actor; the driver draws the progress as a bar.

Ray's own tqdm repeats bars and blank lines where workers print.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from pipeline.errors import RunError

INTERVAL_SECONDS = 0.5
"""Between two messages of the worker, and between two draws of the bar."""


class Progress(NamedTuple):
    """A progress bar's content."""

    total: int
    done: int
    desc: str
    unit: str


class StatusActor:
    """The newest progress of a run, and the fault that ends it."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._fault: RunError | None = None

    def set_progress(self, progress: Progress) -> None:
        """Replace the progress."""
        self._progress = progress

    def progress(self) -> Progress | None:
        """The newest progress; None before the first."""
        return self._progress

    def set_fault(self, fault: RunError) -> None:
        """Record the fault that ends the run; the first one stays."""
        self._fault = self._fault or fault

    def fault(self) -> RunError | None:
        """The fault that ends the run; None if there is none."""
        return self._fault


class RemoteProgress:
    """A progress bar that a worker holds and the driver draws; called as tqdm is."""

    def __init__(self, status: ActorHandle, total: int, desc: str, unit: str):
        self.status = status
        self.now = Progress(total, 0, desc, unit)
        self._next = 0.0

    def update(self, n: int = 1) -> None:
        """Advance by n units; the status actor hears of it every INTERVAL_SECONDS."""
        self.now = self.now._replace(done=self.now.done + n)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL_SECONDS
            self.status.set_progress.remote(self.now)

    def set_description(self, desc: str, refresh: bool = True) -> None:
        """Replace the text before the bar."""
        self.now = self.now._replace(desc=desc)

    def close(self) -> None:
        """Send the last progress, and wait until it has arrived."""
        ray.get(self.status.set_progress.remote(self.now))


@contextmanager
def status_actor() -> Iterator[ActorHandle]:
    """A status actor whose progress the driver draws as a bar, for the length of the block."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # where the driver is
    status = ray.remote(num_cpus=0, scheduling_strategy=here)(StatusActor).remote()
    stop = threading.Event()
    thread = threading.Thread(target=_draw, args=(status, stop), daemon=True)
    thread.start()
    try:
        yield status
    finally:
        stop.set()
        thread.join()
        ray.kill(status)


def _draw(status: ActorHandle, stop: threading.Event) -> None:
    bar = None
    while True:
        last = stop.is_set()
        now = ray.get(status.progress.remote())
        if now:
            bar = bar or tqdm(total=now.total, initial=now.done, unit=now.unit, mininterval=1.0)
            bar.total, bar.unit = now.total, now.unit
            bar.set_description(now.desc, refresh=False)
            bar.update(now.done - bar.n)
        if last:
            break
        stop.wait(INTERVAL_SECONDS)
    if bar:
        bar.close()
