"""Observers: actors of low priority that watch a run from its checkpoints. It knows no paper.

The run knows nothing of them: they read its checkpoints and write files of their own. Whatever becomes of them is said
at the end, in one line.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray
import torch
from ray.actor import ActorHandle

from pipeline.batch import Spec
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.actors import ChainActor, restart_count
from pipeline.errors import Diverged
from pipeline.evaluation.convergence.observer import Observer, truncate_rows
from pipeline.process import configure_process, lower_priority
from pipeline.recipe import Recipe
from pipeline.runs import checkpoint
from pipeline.runs.job import Job
from pipeline.runs.storage import Storage

INTERVAL = 1.0
"""Seconds between two looks at whether there is a new checkpoint."""
LEAST, SHARE = 120.0, 0.1
"""Seconds that the last look may take when the run is done, and more where this share of the run's time is more."""
GRACE = 30.0
"""Seconds more in which an observer that is out of time may say so itself."""
DEATHS = 3
"""Of an observer, that it survives."""


class ObserverChainActor(ChainActor):
    """Moves the chains that observers look at, in the time that others leave."""

    def __init__(self, recipe: Recipe, spec: Spec, threads: int):
        lower_priority()
        super().__init__(recipe, spec, threads)


class ObserverActor:
    """Looks at a run's checkpoints until it is told that the last is there; its calls run side by side."""

    def __init__(self, job: Job[Any], since: int, command: str):
        configure_process(job.resources.threads)
        self.job, self.since, self.command = job, since, command
        self.observer: Observer | None = None
        self.ending, self.over, self.busy, self.why = threading.Event(), threading.Event(), False, ""
        self.faults: list[str] = []

    def watch(self, movers: Sequence[ActorHandle]) -> list[str]:
        """Look whenever there is a new checkpoint; what went wrong, once the last was looked at."""
        lower_priority()
        observer = Observer(self.job, self.since, torch.device("cpu"), ActorPool(movers), self.command)
        self.observer, last = observer, False
        while not last:
            last = self.ending.wait(INTERVAL)
            self._guarded(lambda: self._look(observer))
        if self.why:
            self._guarded(lambda: observer.stopped(self.why))
        self._guarded(observer.close)
        return self.faults

    def end(self, why: str, seconds: float) -> bool:
        """The last checkpoint is there; whether a look at it is to come.

        Args:
            why: how the run itself has found that it diverged, or empty.
            seconds: from now, after which long chains end where they are.
        """
        timer = threading.Timer(seconds, self.over.set)
        timer.daemon = True
        timer.start()
        self.why = why
        self.ending.set()
        return self.busy or self.observer is None or self.observer.news()

    def _look(self, observer: Observer) -> None:
        self.busy = observer.news()
        if self.busy:
            observer.look(lambda: self.over.is_set() or (self.ending.is_set() and observer.news()))
        self.busy = False

    def _guarded(self, call: Callable[[], object]) -> None:
        """Keep a fault, whatever it is: it is no matter of the run's, and the next checkpoint is another chance."""
        try:
            call()
        except Exception as e:
            self.faults.append(f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}")


@contextmanager
def observers(job: Job[Any], spec: Spec, command: str) -> Iterator[None]:
    """Inside the block the job's observers watch it, and have a last look where it ends well or has diverged.

    They are ended with the block, and no fault of theirs leaves it.
    """
    if not job.resources.observers:
        yield
        return
    began, mover, handles = (
        time.monotonic(),
        ray.remote(max_restarts=-1, max_task_retries=DEATHS)(ObserverChainActor),
        [],
    )
    try:
        asks = {"num_cpus": job.resources.cpus_per_observer, "num_gpus": job.resources.gpus_per_observer}
        handles += [
            mover.options(**asks).remote(job.recipe, spec, job.resources.threads)
            for _ in range(job.resources.observers)
        ]
        lasting = {"max_restarts": DEATHS, "max_task_retries": DEATHS, "max_concurrency": 2}
        watcher = ray.remote(num_cpus=0, **lasting)(ObserverActor).remote(job, _begun(job), command)
        watching = watcher.watch.remote(handles[:])
        handles.append(watcher)
        try:
            yield
        except Diverged as e:
            _conclude(watcher, watching, str(e), time.monotonic() - began)
            raise
        _conclude(watcher, watching, "", time.monotonic() - began)
    finally:
        for handle in handles:
            ray.kill(handle)


def _begun(job: Job[Any]) -> int:
    """Where the run goes on from; what was observed past it is cut off."""
    name = checkpoint.newest_name(Storage.at(job.out) / "checkpoints")
    update = checkpoint.update_of(name) if name else 0
    with suppress(OSError):  # the observer will say so
        truncate_rows(Storage.at(job.out), update)
    return update


def _conclude(watcher: ActorHandle, watching: ray.ObjectRef, why: str, seconds: float) -> None:
    """Wait for the last look, but not for long, and say what went wrong."""
    limit, died = max(LEAST, SHARE * seconds), 0
    try:
        if ray.get(watcher.end.remote(why, limit), timeout=GRACE):
            print(f"observing the last checkpoint, for {limit:.0f} s at most", file=sys.stderr)
        faults = ray.get(watching, timeout=limit + GRACE)
        died = restart_count([watcher])
    except ray.exceptions.GetTimeoutError:
        faults = ["no answer in time"]
    except Exception as e:  # whatever it is, it must not become the run's
        faults = [f"{type(e).__name__}: {(str(e).splitlines() or [''])[-1].strip()}"]
    if died:
        print(f"the observer died and came back {died} times", file=sys.stderr)
    if faults:
        print(f"the observer failed {len(faults)} times, at last: {faults[-1]}; the run is as it was", file=sys.stderr)
