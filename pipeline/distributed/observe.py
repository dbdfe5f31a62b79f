"""Observers: low-priority actors that watch a run from its checkpoints. It knows no paper.

The run does not depend on them: they read its checkpoints and write files of their own. Their faults are reported in
one line when the run ends.
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
from pipeline.distributed.actors import MAX_DEATHS, ChainActor, start_chain_actors
from pipeline.distributed.ray_private import restart_count
from pipeline.errors import Diverged, RunReadError
from pipeline.evaluation.convergence.observer import Observer, truncate_rows
from pipeline.process import configure_process, lower_priority
from pipeline.recipe import Recipe
from pipeline.runs import checkpoint
from pipeline.runs.job import Job
from pipeline.runs.storage import Storage

POLL_SECONDS = 1.0
"""Between two checks for a new checkpoint."""
LAST_LOOK_SECONDS, LAST_LOOK_SHARE = 120.0, 0.1
"""Time for the last look, after the run: seconds, or this share of the run's time where that is longer."""
GRACE_SECONDS = 30.0
"""Time in which an observer that has run out of time may still report."""


class ObserverChainActor(ChainActor):
    """Moves the chains of an observer, at low priority."""

    def __init__(self, recipe: Recipe, spec: Spec, threads: int, deterministic: bool = False):
        lower_priority()
        super().__init__(recipe, spec, threads, deterministic)


class ObserverActor:
    """Looks at each new checkpoint of a run until the run ends. `watch` and `end` run at the same time."""

    def __init__(self, job: Job[Any], since: int, command: str):
        configure_process(job.resources.threads, job.resources.deterministic)
        self.job, self.since, self.command = job, since, command
        self.observer: Observer | None = None
        self.ending, self.out_of_time, self.looking = threading.Event(), threading.Event(), False
        self.divergence = ""
        self.faults: list[str] = []

    def watch(self, chain_actors: Sequence[ActorHandle]) -> list[str]:
        """Look at each new checkpoint until the last one; returns the faults, one line each."""
        lower_priority()
        observer = Observer(self.job, self.since, torch.device("cpu"), ActorPool(chain_actors), self.command)
        self.observer, last = observer, False
        while not last:
            last = self.ending.wait(POLL_SECONDS)
            self._catch(lambda: self._look(observer))
        if self.divergence:
            self._catch(lambda: observer.record_divergence(self.divergence))
        self._catch(observer.close)
        return self.faults

    def end(self, divergence: str, seconds: float) -> bool:
        """Say that the run has written its last checkpoint; returns whether there is still a look to come.

        Args:
            divergence: how the run diverged; empty if it did not.
            seconds: from now, after which long chains stop where they are.
        """
        timer = threading.Timer(seconds, self.out_of_time.set)
        timer.daemon = True
        timer.start()
        self.divergence = divergence
        self.ending.set()
        return self.looking or self.observer is None or self.observer.has_news()

    def _look(self, observer: Observer) -> None:
        self.looking = observer.has_news()
        if self.looking:
            observer.observe(lambda: self.out_of_time.is_set() or (self.ending.is_set() and observer.has_news()))
        self.looking = False

    def _catch(self, call: Callable[[], object]) -> None:
        """Record any fault and continue: it must not affect the run, and the next checkpoint is another chance."""
        try:
            call()
        except Exception as e:
            self.faults.append(f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}")


@contextmanager
def observers(job: Job[Any], spec: Spec, command: str) -> Iterator[None]:
    """Let the job's observers watch it for the length of the block.

    They take a last look if the block ends well or with Diverged. None of their faults leaves the block.
    """
    if not job.resources.observers:
        yield
        return
    start, handles = time.monotonic(), list[ActorHandle]()
    try:
        observer, watching = _start(job, spec, command, handles)
        try:
            yield
        except Diverged as e:
            _finish(observer, watching, str(e), time.monotonic() - start)
            raise
        _finish(observer, watching, "", time.monotonic() - start)
    finally:
        for handle in handles:
            ray.kill(handle)


def _start(job: Job[Any], spec: Spec, command: str, handles: list[ActorHandle]) -> tuple[ActorHandle, ray.ObjectRef]:
    """Start the actors, adding them to `handles`; returns the ObserverActor, and its faults to come."""
    settings = job.resources
    places, amounts = [None] * settings.observers, (settings.cpus_per_observer, settings.gpus_per_observer)
    chain_actors = start_chain_actors(job, spec, places, *amounts, ObserverChainActor)
    handles += chain_actors
    options = {"num_cpus": 0, "max_restarts": MAX_DEATHS, "max_task_retries": MAX_DEATHS, "max_concurrency": 2}
    observer = ray.remote(**options)(ObserverActor).remote(job, _first_update(job), command)
    handles.append(observer)
    return observer, observer.watch.remote(chain_actors)


def _first_update(job: Job[Any]) -> int:
    """The update from which the run continues; later rows of the observers' file are removed."""
    name = checkpoint.newest_name(Storage.at(job.out) / "checkpoints")
    update = checkpoint.update_of(name) if name else 0
    with suppress(OSError, RunReadError):  # the observer reports it
        truncate_rows(Storage.at(job.out), update)
    return update


def _finish(observer: ActorHandle, watching: ray.ObjectRef, divergence: str, run_seconds: float) -> None:
    """Wait for the last look, up to a limit, and print the faults."""
    limit, deaths = max(LAST_LOOK_SECONDS, LAST_LOOK_SHARE * run_seconds), 0
    try:
        if ray.get(observer.end.remote(divergence, limit), timeout=GRACE_SECONDS):
            print(f"observing the last checkpoint, for {limit:.0f} s at most", file=sys.stderr)
        faults = ray.get(watching, timeout=limit + GRACE_SECONDS)
        deaths = restart_count([observer])
    except ray.exceptions.GetTimeoutError:
        faults = ["no result in time"]
    except Exception as e:  # no fault of an observer may end the run
        faults = [f"{type(e).__name__}: {(str(e).splitlines() or [''])[-1].strip()}"]
    if deaths:
        print(f"the observer died and restarted {deaths} times", file=sys.stderr)
    if faults:
        print(f"the observer failed {len(faults)} times, last with {faults[-1]}; the run is intact", file=sys.stderr)
