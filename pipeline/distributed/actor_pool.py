"""Pool: tasks out to actors, answers in, in order, whatever dies. It knows neither torch nor recipes.

A task is pure, so Ray's own restarts and retries are exact, and a task that is late may go to another actor as well:
whichever answers first is right. What is done an update, not a task, is what keeps a pool of many actors cheap: one
look at all that is out, one wait for all that is asked for.
"""

import heapq
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import ray
from numpy import ndarray

from pipeline.errors import TaskTimeout

PATIENCE = 60.0
"""Seconds after which a task may be late; twice as many after each further try."""
TRIES = 5
POLL_SECONDS = 1.0
"""Seconds between two looks at what is waited for: how exactly it is known what a task takes."""


class _Try(NamedTuple):
    actor: int
    since: float


class _Sent(NamedTuple):
    task: Any
    weights: list[ray.ObjectRef]
    tries: dict[ray.ObjectRef, _Try]


class ActorPool:
    """Spreads tasks over ChainActors; the same interface as chains.LocalPool."""

    remote = True

    def __init__(self, actors: Sequence[Any]):
        self.actors, self.next = list(actors), 0
        self.ready: dict[int, dict[tuple[str, int], Any]] = {}
        self.faults = {"resent": 0, "died": 0}
        self._sent: dict[int, dict[tuple[str, int], _Sent]] = {}
        self._open: dict[ray.ObjectRef, _Try] = {}
        self._seconds: list[float] = []
        self._fixed: tuple[ndarray | None, list[ray.ObjectRef]] = None, []

    def submit(self, update: int, tasks: Sequence[Any], flat: ndarray, fixed: ndarray | None = None) -> None:
        """Send the tasks that `update` will use; the weights `flat` are put once and fetched by who lacks them.

        Those of networks that never learn, `fixed`, are put once as long as they are the same array.
        """
        if fixed is not self._fixed[0]:
            self._fixed = fixed, [] if fixed is None else [ray.put(fixed)]
        weights, queues = [ray.put(flat), *self._fixed[1]], self._queues()
        self._sent[update] = {(task.chain, task.lane.index): _Sent(task, weights, {}) for task in tasks}
        for one in self._sent[update].values():
            late, length, actor = queues[0]
            heapq.heapreplace(queues, (late, length + 1, actor))
            self._ask(actor, one)
        self.next = max(self.next, update + 1)

    def collect(self, update: int) -> dict[tuple[str, int], Any]:
        """The answers of `update`, once all are there.

        Raises:
            Unanswered: a task is not back after five tries.
        """
        if update not in self.ready:
            self.ready[update] = self._answers(self._sent.pop(update))
        return self.ready.pop(update)

    def drain(self) -> dict[int, dict[tuple[str, int], Any]]:
        """All answers not collected yet, by update; they stay to be collected."""
        for update in sorted(self._sent):
            self.ready[update] = self.collect(update)
        return self.ready

    def forget(self) -> None:
        """Drop all that was submitted, and begin at update 0; what the actors are at comes to nothing."""
        self.ready, self._sent, self.next = {}, {}, 0

    def _ask(self, actor: int, one: _Sent) -> ray.ObjectRef:
        answer = self.actors[actor].advance.remote(one.task, one.weights)
        one.tries[answer] = self._open[answer] = _Try(actor, time.monotonic())
        return answer

    def _queues(self) -> list[tuple[bool, int, int]]:
        """A heap of all actors by what they have to do: whether they are late with any of it, how much it is, which."""
        if self._open:
            done, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=0, fetch_local=False)
            for answer in done:
                del self._open[answer]
        late, length = [False] * len(self.actors), [0] * len(self.actors)
        lately = time.monotonic() - self._patience()
        for actor, since in self._open.values():
            late[actor], length[actor] = late[actor] or since < lately, length[actor] + 1
        queues = [(late[actor], length[actor], actor) for actor in range(len(self.actors))]
        heapq.heapify(queues)
        return queues

    def _patience(self) -> float:
        return max(PATIENCE, 5 * median(self._seconds)) if self._seconds else PATIENCE

    def _answers(self, sent: dict[tuple[str, int], _Sent]) -> dict[tuple[str, int], Any]:
        pending = {answer: key for key, one in sent.items() for answer in one.tries}
        found: dict[tuple[str, int], Any] = {}
        while len(found) < len(sent):
            done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=min(POLL_SECONDS, self._patience()))
            for ref, answer in self._values(done):
                key = pending.pop(ref)
                tried = self._open.pop(ref, sent[key].tries[ref])
                if answer is not None and key not in found:
                    found[key] = answer
                    self._seconds = [*self._seconds[-99:], time.monotonic() - tried.since]
            asked = set(pending.values())
            for key in [key for key in sent if key not in found]:
                if key not in asked or self._late(sent[key]):
                    pending[self._ask_another(sent[key])] = key
            pending = {answer: key for answer, key in pending.items() if key not in found}
        return {key: found[key] for key in sent}

    def _values(self, done: list[ray.ObjectRef]) -> list[tuple[ray.ObjectRef, Any]]:
        """The answers that are there; None for those lost with an actor or a machine, beyond Ray's own restarts."""
        try:
            return list(zip(done, ray.get(done), strict=True))
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
            if len(done) > 1:
                return [value for answer in done for value in self._values([answer])]
        self.faults["died"] += 1
        return [(done[0], None)]

    def _late(self, one: _Sent) -> bool:
        last = max(tried.since for tried in one.tries.values())
        return time.monotonic() > last + self._patience() * 2 ** (len(one.tries) - 1)

    def _ask_another(self, one: _Sent) -> ray.ObjectRef:
        """Send a task once more: if possible to an actor that is new to it, with the least to do, and not late."""
        if len(one.tries) == TRIES:
            what = f"{one.task.chain} chains of lane {one.task.lane.index}, seed {one.task.seed}"
            raise TaskTimeout(f"{what}: no answer in {TRIES} tries")
        tried = {one.actor for one in one.tries.values()}
        queues = self._queues()
        self.faults["resent"] += 1
        return self._ask(min([q for q in queues if q[2] not in tried] or queues)[2], one)
