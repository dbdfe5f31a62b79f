"""Pool: tasks out to actors, answers in, in order, whatever dies. It knows neither torch nor recipes.

A task is pure, so Ray's own restarts and retries are exact, and a task that is late may go to another actor as well:
whichever answers first is right.
"""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import ray
from numpy import ndarray

PATIENCE = 60.0
"""Seconds after which a task may be late."""
TRIES = 5


class Unanswered(RuntimeError):
    """A task came back from none of the actors it was given to."""


class _Sent(NamedTuple):
    task: Any
    weights: list[ray.ObjectRef]
    tries: list[tuple[ray.ObjectRef, int]]
    """Each: the answer to come, and the number of the actor."""
    since: list[float]


class Pool:
    """Spreads tasks over ChainActors; the same interface as chains.LocalPool."""

    remote = True

    def __init__(self, actors: Sequence[Any]):
        self.actors, self.next = list(actors), 0
        self.ready: dict[int, dict[tuple[str, int], Any]] = {}
        self._sent: dict[int, dict[tuple[str, int], _Sent]] = {}
        self._load = [0] * len(self.actors)
        self._seconds: list[float] = []

    def submit(self, update: int, tasks: Sequence[Any], flat: ndarray) -> None:
        """Send the tasks that `update` will use; the weights `flat` are put once and fetched by who lacks them."""
        weights = [ray.put(flat)]
        self._sent[update] = {(task.chain, task.lane.index): self._send(task, weights) for task in tasks}
        self.next = update + 1

    def collect(self, update: int) -> dict[tuple[str, int], Any]:
        """The answers of `update`, once all are there.

        Raises:
            Unanswered: a task is not back after five tries.
        """
        if update not in self.ready:
            sent = self._sent.pop(update)
            self.ready[update] = {key: self._answer(one) for key, one in sent.items()}
        return self.ready.pop(update)

    def drain(self) -> dict[int, dict[tuple[str, int], Any]]:
        """All answers not collected yet, by update; they stay to be collected."""
        for update in sorted(self._sent):
            self.ready[update] = self.collect(update)
        return self.ready

    def _send(self, task: Any, weights: list[ray.ObjectRef], avoid: Sequence[int] = ()) -> _Sent:
        return _Sent(task, weights, [self._call(task, weights, avoid)], [time.monotonic()])

    def _call(self, task: Any, weights: list[ray.ObjectRef], avoid: Sequence[int]) -> tuple[ray.ObjectRef, int]:
        others = [i for i in range(len(self.actors)) if i not in avoid] or range(len(self.actors))
        chosen = min(others, key=lambda i: self._load[i])
        self._load[chosen] += 1
        return self.actors[chosen].advance.remote(task, weights), chosen

    def _answer(self, sent: _Sent) -> Any:
        while True:
            refs = [ref for ref, _ in sent.tries]
            done, _ = ray.wait(refs, num_returns=1, timeout=self._limit())
            if done:
                for _, actor in sent.tries:
                    self._load[actor] -= 1
                answer = ray.get(done[0])
                self._seconds = [*self._seconds[-99:], time.monotonic() - sent.since[0]]
                return answer
            if len(sent.tries) == TRIES:
                task = sent.task
                raise Unanswered(
                    f"task {task.chain}, lane {task.lane.index}, seed {task.seed}: no answer in {TRIES} tries"
                )
            sent.tries.append(self._call(sent.task, sent.weights, [actor for _, actor in sent.tries]))

    def _limit(self) -> float:
        return max(PATIENCE, 5 * median(self._seconds)) if self._seconds else PATIENCE
