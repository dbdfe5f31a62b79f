"""Progress and faults of learners, and requests to stop, shared through an actor; the driver draws the progress.

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

from pipeline import stop
from pipeline.errors import RunError
from pipeline.progress import NoBar, ProgressBar, TerminalBar

INTERVAL_SECONDS = 0.5
"""Between two messages of the worker, and between two draws of the bar."""


class Progress(NamedTuple):
    """A progress bar's content."""

    began: float
    """When, which tells bars apart."""
    total: int | None
    done: int
    desc: str
    unit: str


class StatusActor:
    """The newest progress of a run, the fault that ends it, and a request to stop."""

    def __init__(self) -> None:
        self._stop, self._working = "", 0
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

    def set_stop(self, reason: str) -> None:
        """Ask those who work to stop."""
        self._stop = reason

    def stop(self) -> str:
        """Why they should stop; empty as long as they should not."""
        return self._stop

    def add_working(self, change: int) -> None:
        """Count those who work: 1 at the start, -1 at the end."""
        self._working += change

    def working(self) -> int:
        """How many work."""
        return self._working


class RemoteRequest:
    """Called as `pipeline.stop.requested`, by those who work: the driver's request, which takes a moment to arrive."""

    def __init__(self, status: ActorHandle):
        self.status, self.reason = status, ""
        self._answer: ray.ObjectRef | None = None
        self._next = 0.0

    def __call__(self) -> str:
        """Why the work should stop, as of the last answer; this never waits."""
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self.reason, self._answer = ray.get(self._answer), None
        if self._answer is None and time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL_SECONDS
            self._answer = self.status.stop.remote()
        return self.reason


class RemoteProgress:
    """A progress bar that a worker holds and the driver draws; called as tqdm is."""

    def __init__(self, status: ActorHandle, total: int | None, desc: str, unit: str):
        self.status = status
        self.now = Progress(time.time(), total, 0, desc, unit)
        self._next = 0.0
        self.update(0)

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
def status_actor(shows_progress: bool = True) -> Iterator[ActorHandle]:
    """A status actor whose progress the driver draws as a bar, for the length of the block.

    It hears of a request to stop this process.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)  # where the driver is
    status = ray.remote(num_cpus=0, scheduling_strategy=here)(StatusActor).remote()
    end = threading.Event()
    thread = threading.Thread(target=_draw, args=(status, end, shows_progress), daemon=True)
    thread.start()
    try:
        yield status
    finally:
        end.set()
        thread.join()
        ray.kill(status)


def _draw(status: ActorHandle, end: threading.Event, shows_progress: bool) -> None:
    before, last = Progress(0.0, None, 0, "starting the learners", ""), False
    bar: ProgressBar = TerminalBar(None, before.desc) if shows_progress else NoBar()
    while not last:
        last = end.is_set()
        if reason := stop.requested():
            status.set_stop.remote(reason)
        try:
            now = ray.get(status.progress.remote()) or before
        except ray.exceptions.RayError:  # whoever waits for the learners has it too
            break
        if now.began != before.began:
            bar.close()
            bar, before = TerminalBar(now.total, now.desc, now.unit, now.done), now
        bar.set_description(now.desc)
        bar.update(now.done - before.done)
        before = now
        if not last:
            end.wait(INTERVAL_SECONDS)
    bar.close()
