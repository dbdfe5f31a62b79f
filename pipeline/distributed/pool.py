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

from pipeline.errors import Unanswered

PATIENCE = 60.0
"""Seconds after which a task may be late; twice as many after each further try."""
TRIES = 5


class _Try(NamedTuple):
    answer: ray.ObjectRef
    actor: int


class _Sent(NamedTuple):
    task: Any
    weights: list[ray.ObjectRef]
    tries: list[_Try]
    since: float


class Pool:
    """Spreads tasks over ChainActors; the same interface as chains.LocalPool."""

    remote = True

    def __init__(self, actors: Sequence[Any]):
        self.actors, self.next = list(actors), 0
        self.ready: dict[int, dict[tuple[str, int], Any]] = {}
        self._sent: dict[int, dict[tuple[str, int], _Sent]] = {}
        self._open: list[dict[ray.ObjectRef, float]] = [{} for _ in self.actors]
        self._seconds: list[float] = []

    def submit(self, update: int, tasks: Sequence[Any], flat: ndarray) -> None:
        """Send the tasks that `update` will use; the weights `flat` are put once and fetched by who lacks them."""
        weights = [ray.put(flat)]
        self._sent[update] = {(task.chain, task.lane.index): self._send(task, weights) for task in tasks}
        self.next = max(self.next, update + 1)

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

    def forget(self) -> None:
        """Drop all that was submitted, and begin at update 0; what the actors are at comes to nothing."""
        self.ready, self._sent, self.next = {}, {}, 0

    def _send(self, task: Any, weights: list[ray.ObjectRef]) -> _Sent:
        return _Sent(task, weights, [self._try(task, weights, set())], time.monotonic())

    def _try(self, task: Any, weights: list[ray.ObjectRef], tried: set[int]) -> _Try:
        """Send a task to the actor with the least to do, if possible one that is new to it and late with no other."""
        self._reap()
        others = set(range(len(self.actors))) - tried or range(len(self.actors))
        late = time.monotonic() - self._patience()
        chosen = min(
            sorted(others), key=lambda i: (min(self._open[i].values(), default=late) < late, len(self._open[i]))
        )
        answer = self.actors[chosen].advance.remote(task, weights)
        self._open[chosen][answer] = time.monotonic()
        return _Try(answer, chosen)

    def _patience(self) -> float:
        return max(PATIENCE, 5 * median(self._seconds)) if self._seconds else PATIENCE

    def _reap(self) -> None:
        """Forget what the actors have done."""
        for sent in self._open:
            if sent:
                done, _ = ray.wait(list(sent), num_returns=len(sent), timeout=0, fetch_local=False)
                for answer in done:
                    del sent[answer]

    def _answer(self, sent: _Sent) -> Any:
        patience = self._patience()
        deadline, pending = sent.since + patience, [one.answer for one in sent.tries]
        while True:
            done, pending = ray.wait(pending, timeout=max(0.0, deadline - time.monotonic())) if pending else ([], [])
            if done:
                try:
                    answer = ray.get(done[0])
                except ray.exceptions.RayActorError:  # beyond Ray's own restarts; another try may still be on its way
                    continue
                self._seconds = [*self._seconds[-99:], time.monotonic() - sent.since]
                return answer
            if len(sent.tries) == TRIES:
                what = f"{sent.task.chain} chains of lane {sent.task.lane.index}, seed {sent.task.seed}"
                raise Unanswered(f"{what}: no answer in {TRIES} tries")
            sent.tries.append(self._try(sent.task, sent.weights, {one.actor for one in sent.tries}))
            pending.append(sent.tries[-1].answer)
            patience *= 2
            deadline = time.monotonic() + patience
