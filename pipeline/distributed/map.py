"""RayMap: a pure function of many parts, as Ray tasks. It knows no paper."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray

from pipeline.process import configure_process

T = TypeVar("T")
P = TypeVar("P")

MAX_DEATHS = 3
"""Deaths of its process that a part survives."""


class RayMap:
    """`map` with up to `workers` parts in progress; results come in the order of the parts.

    Its tasks request no CPU from Ray: they use the CPUs of as many chain actors, which are idle meanwhile.
    """

    def __init__(self, workers: int, threads: int):
        self.workers, self.threads = workers, threads

    def __call__(self, function: Callable[[P], T], parts: Iterable[P]) -> Iterator[T]:
        """The function's result for each part. The function is sent once; its exceptions are raised here."""
        remote = ray.remote(num_cpus=0, max_retries=MAX_DEATHS, scheduling_strategy="SPREAD")(_call)
        shared, running = ray.put(function), deque[ray.ObjectRef]()
        for part in parts:
            if len(running) == self.workers:
                yield ray.get(running.popleft())
            running.append(remote.remote(shared, part, self.threads))
        while running:
            yield ray.get(running.popleft())


def _call(function: Callable[[Any], Any], part: Any, threads: int) -> Any:
    configure_process(threads)
    return function(part)
