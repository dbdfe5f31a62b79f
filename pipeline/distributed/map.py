"""A pure function of many parts, as Ray tasks: for what is neither learning nor chains. It knows no paper."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray

from pipeline.process import configure_process

T = TypeVar("T")
P = TypeVar("P")

RETRIES = 3
"""Deaths of its process that a part survives."""


class RayMap:
    """`map` with so many parts under way at a time; results come in the order of the parts.

    Its tasks ask Ray for no CPU: they use those of chain actors that rest meanwhile, of which there are as many.
    """

    def __init__(self, workers: int, threads: int):
        self.workers, self.threads = workers, threads

    def __call__(self, function: Callable[[P], T], parts: Iterable[P]) -> Iterator[T]:
        """What the function makes of each part; it travels once. Raises what the function does."""
        remote = ray.remote(num_cpus=0, max_retries=RETRIES, scheduling_strategy="SPREAD")(_called)
        shared, under_way = ray.put(function), deque[ray.ObjectRef]()
        for part in parts:
            if len(under_way) == self.workers:
                yield ray.get(under_way.popleft())
            under_way.append(remote.remote(shared, part, self.threads))
        while under_way:
            yield ray.get(under_way.popleft())


def _called(function: Callable[[Any], Any], part: Any, threads: int) -> Any:
    configure_process(threads)
    return function(part)
