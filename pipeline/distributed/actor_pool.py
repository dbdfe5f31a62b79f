"""ActorPool: sends tasks to actors and returns results in order, whatever dies. It knows neither torch nor recipes.

A task is pure, so Ray's own restarts and retries are exact. A late task may also go to another actor: the first result
is the right one. The pool polls once an update, not once a task, which keeps a pool of many actors cheap.
"""

import heapq
import time
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import ray
from numpy import ndarray

from pipeline.distributed.shared_weights import SharedWeights, WeightRefs
from pipeline.errors import TaskTimeout

TIMEOUT_SECONDS = 60.0
"""A task is late after this time, or after five median task times where that is longer; the time doubles with each
further request."""
START_SECONDS = 300.0
"""The same for an actor that has returned no result yet: it may have to start CUDA, or to compile."""
MAX_REQUESTS = 5
"""How often the pool requests a task before it gives up."""
POLL_SECONDS = 1.0
"""The longest wait between two checks for late tasks. Task times are accurate to this."""


class _Request(NamedTuple):
    actor: int
    since: float


class _PendingTask(NamedTuple):
    task: Any
    weights: list[WeightRefs]
    requests: dict[ray.ObjectRef, _Request]


class ActorPool:
    """Spreads tasks over ChainActors; the same interface as `LocalPool`."""

    remote = True

    def __init__(self, actors: Sequence[Any], shared: SharedWeights | None = None):
        """A pool without tasks.

        Args:
            actors: ChainActors.
            shared: where ranks share weights; None: this pool puts its own. With it all ranks submit alike.
        """
        self.actors, self.shared, self.next = list(actors), shared, 0
        self.ready: dict[int, dict[tuple[str, int], Any]] = {}
        self.faults = {"resent": 0, "died": 0}
        self._pending: dict[int, dict[tuple[str, int], _PendingTask]] = {}
        self._open: dict[ray.ObjectRef, _Request] = {}
        self._task_seconds: list[float] = []
        self._warm: set[int] = set()
        self._frozen: tuple[ndarray | None, list[ray.ObjectRef]] = None, []

    def submit(self, update: int, tasks: Sequence[Any], flat: ndarray, frozen: ndarray | None = None) -> None:
        """Send the tasks that `update` will use.

        Args:
            update: their update.
            tasks: of different (chain, lane).
            flat: weights of the networks that learn. They go to the object store once; an actor that lacks them
                fetches them.
            frozen: weights of frozen networks. They go to the store again only if they are another array than before.
        """
        put, queues = partial(self._put, flat, frozen), self._queues()
        weights = self.shared.by_actor(put) if self.shared else [put()] * len(self.actors)
        self._pending[update] = {(task.chain, task.lane.index): _PendingTask(task, weights, {}) for task in tasks}
        for pending in self._pending[update].values():
            late, length, actor = queues[0]
            heapq.heapreplace(queues, (late, length + 1, actor))
            self._request(actor, pending)
        self.next = max(self.next, update + 1)

    def collect(self, update: int) -> dict[tuple[str, int], Any]:
        """Wait for the results of `update`.

        Raises:
            TaskTimeout: a task has no result after `MAX_REQUESTS` requests.
        """
        if update not in self.ready:
            self.ready[update] = self._wait(self._pending.pop(update))
        return self.ready.pop(update)

    def drain(self) -> dict[int, dict[tuple[str, int], Any]]:
        """Wait for all results that were not collected yet, by update; they can still be collected."""
        for update in sorted(self._pending):
            self.ready[update] = self.collect(update)
        return self.ready

    def reset(self) -> None:
        """Drop all tasks and results, and start again at update 0. Results that still arrive are ignored."""
        self.ready, self._pending, self.next = {}, {}, 0

    def _put(self, flat: ndarray, frozen: ndarray | None) -> WeightRefs:
        if frozen is not self._frozen[0]:
            self._frozen = frozen, [] if frozen is None else [ray.put(frozen)]
        return [ray.put(flat), *self._frozen[1]]

    def _request(self, actor: int, pending: _PendingTask) -> ray.ObjectRef:
        ref = self.actors[actor].advance.remote(pending.task, pending.weights[actor])
        pending.requests[ref] = self._open[ref] = _Request(actor, time.monotonic())
        return ref

    def _queues(self) -> list[tuple[bool, int, int]]:
        """A heap of (is late with a task, number of open tasks, index), one per actor: the first is the best choice."""
        if self._open:
            done, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=0, fetch_local=False)
            for ref in done:
                del self._open[ref]
        late, length = [False] * len(self.actors), [0] * len(self.actors)
        now = time.monotonic()
        for actor, since in self._open.values():
            late[actor], length[actor] = late[actor] or since < now - self._timeout(actor), length[actor] + 1
        queues = [(late[actor], length[actor], actor) for actor in range(len(self.actors))]
        heapq.heapify(queues)
        return queues

    def _timeout(self, actor: int) -> float:
        usual = max(TIMEOUT_SECONDS, 5 * median(self._task_seconds)) if self._task_seconds else TIMEOUT_SECONDS
        return usual if actor in self._warm else max(usual, START_SECONDS)

    def _wait(self, tasks: dict[tuple[str, int], _PendingTask]) -> dict[tuple[str, int], Any]:
        keys = {ref: key for key, pending in tasks.items() for ref in pending.requests}
        results: dict[tuple[str, int], Any] = {}
        while len(results) < len(tasks):
            done, _ = ray.wait(list(keys), num_returns=len(keys), timeout=min(POLL_SECONDS, TIMEOUT_SECONDS))
            for ref, result in self._values(done):
                key = keys.pop(ref)
                request = self._open.pop(ref, tasks[key].requests[ref])
                if result is not None:
                    self._warm.add(request.actor)
                if result is not None and key not in results:
                    results[key] = result
                    self._task_seconds = [*self._task_seconds[-99:], time.monotonic() - request.since]
            requested = set(keys.values())
            for key in [key for key in tasks if key not in results]:
                if key not in requested or self._is_late(tasks[key]):
                    keys[self._request_again(tasks[key])] = key
            keys = {ref: key for ref, key in keys.items() if key not in results}
        return {key: results[key] for key in tasks}

    def _values(self, done: list[ray.ObjectRef]) -> list[tuple[ray.ObjectRef, Any]]:
        """The results by reference; None for one that an actor or machine lost, beyond Ray's own restarts."""
        try:
            return list(zip(done, ray.get(done), strict=True))
        except ray.exceptions.OwnerDiedError:  # the rank that had put the weights: all ranks start again
            raise
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
            if len(done) > 1:
                return [value for ref in done for value in self._values([ref])]
        self.faults["died"] += 1
        return [(done[0], None)]

    def _is_late(self, pending: _PendingTask) -> bool:
        last = max(pending.requests.values(), key=lambda request: request.since)
        return time.monotonic() > last.since + self._timeout(last.actor) * 2 ** (len(pending.requests) - 1)

    def _request_again(self, pending: _PendingTask) -> ray.ObjectRef:
        """Request a task once more, preferably from an actor that has not had it, is not late and has few tasks."""
        if len(pending.requests) == MAX_REQUESTS:
            task = pending.task
            name = f"{task.chain} chains of lane {task.lane.index}, seed {task.seed}"
            raise TaskTimeout(f"{name}: no result after {MAX_REQUESTS} requests")
        actors = {request.actor for request in pending.requests.values()}
        queues = self._queues()
        self.faults["resent"] += 1
        return self._request(min([q for q in queues if q[2] not in actors] or queues)[2], pending)
