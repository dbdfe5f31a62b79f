"""What processes share: the cores of a machine, a GPU, a link."""

import heapq
import math

import simpy


class Shared:
    """A resource whose capacity is shared equally by all who use it, and of which each uses at most 1.

    So with capacity 2 and three users each has two thirds. That is how an operating system shares cores among
    processes of one thread, how a GPU is shared by processes that take turns, and how flows share a link.
    """

    def __init__(self, env: simpy.Environment, capacity: float, users: float = math.inf):
        """A resource that nobody uses yet.

        Args:
            env: of the simulation.
            capacity: users that it serves at full speed.
            users: the most that there ever are at the same time; if it serves them all, nothing need be shared.
        """
        self.env, self.capacity, self.used = env, capacity, 0.0
        """`used`: seconds of use so far, over all users."""
        self._is_shared = users > capacity
        self._jobs: list[tuple[float, int, simpy.Event]] = []
        self._progress, self._since, self._count, self._wake = 0.0, env.now, 0, 0
        self._planned: tuple[float, float] | None = None
        """Progress and rate at the next end that an event waits for."""

    def use(self, seconds: float) -> simpy.Event:
        """An event that succeeds once the resource was used for so many seconds."""
        if not self._is_shared:
            self.used += max(0.0, seconds)
            return self.env.timeout(max(0.0, seconds))
        done = self.env.event()
        if seconds <= 0:
            return done.succeed()
        self._advance()
        self._count += 1
        heapq.heappush(self._jobs, (self._progress + seconds, self._count, done))
        self._schedule()
        return done

    def _rate(self) -> float:
        return min(1.0, self.capacity / len(self._jobs))

    def _advance(self) -> None:
        """Bring the progress of a user, since the beginning, up to now."""
        passed, self._since = self.env.now - self._since, self.env.now
        if self._jobs:
            self._progress += passed * self._rate()
            self.used += passed * min(float(len(self._jobs)), self.capacity)

    def _schedule(self) -> None:
        """Wait for the next end, unless an event does so already: nobody came or went who changes it."""
        planned = (self._jobs[0][0], self._rate()) if self._jobs else None
        if planned == self._planned:
            return
        self._planned = planned
        self._wake += 1
        if planned:
            delay = max(0.0, planned[0] - self._progress) / planned[1]
            self.env.timeout(delay, self._wake).callbacks.append(self._end_first)

    def _end_first(self, timeout: simpy.Event) -> None:
        if timeout.value != self._wake:
            return
        self._advance()
        first, self._planned = self._jobs[0][0], None
        while self._jobs and self._jobs[0][0] <= first + 1e-12:
            heapq.heappop(self._jobs)[2].succeed()
        self._schedule()
