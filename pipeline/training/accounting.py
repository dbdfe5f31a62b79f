"""What one rank adds to a run's counters."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainResults
from pipeline.runs.counters import FAULTS, Counters
from pipeline.training.collective import gather


class Accounting:
    """Counts what this rank's process costs and which faults its pool survives."""

    def __init__(self, pool: Pool, restart_count: Callable[[], int]):
        """Begin to count.

        Args:
            pool: this rank's.
            restart_count: how often this command's actors have been restarted so far; 0 on every rank but one.
        """
        self.pool, self.restart_count = pool, restart_count
        self.before, self.latest = Counters(), Counters()
        self.gradient_evaluations, self.chain_cpu_seconds, self.staleness_waits = 0, 0.0, 0
        self.offset = {**self.current_faults(), "actor_restarts": 0}
        self.wall_start, self.cpu_start = time.perf_counter(), time.process_time()

    def current_faults(self) -> dict[str, int]:
        """The pool's counts of faults, and the restarts of actors."""
        counts = (self.pool.faults["resent"], self.pool.faults["died"], self.restart_count())
        return dict(zip(FAULTS, counts, strict=True))

    def add(self, results: ChainResults) -> None:
        """Count the chains of an update."""
        for result in results.values():
            self.gradient_evaluations += result.gradient_evaluations
            self.chain_cpu_seconds += result.cpu_seconds * self.pool.remote

    def total(self) -> Counters:
        """The counters so far, over all ranks and earlier commands; a barrier."""
        own = {name: count - self.offset[name] for name, count in self.current_faults().items()}
        own_seconds = self.chain_cpu_seconds + time.process_time() - self.cpu_start
        rows = gather({"cpu_seconds": own_seconds, "gradient_evaluations": self.gradient_evaluations, **own})
        sums = {name: getattr(self.before, name) + sum(row[name] for row in rows) for name in rows[0]}
        wall = self.before.wall_seconds + time.perf_counter() - self.wall_start
        waits = self.before.staleness_waits + self.staleness_waits  # the same on every rank
        self.latest = Counters(wall_seconds=wall, staleness_waits=waits, **sums)
        return self.latest

    def restore(self, state: Mapping[str, Any], same_command: bool) -> None:
        """Continue from the counters of a checkpoint.

        Args:
            state: a checkpoint's, which holds what `total` returned, and `restarts_of_command`.
            same_command: whether the command that wrote them is this one, whose restarts they include.
        """
        self.before = Counters(**{f.name: state.get(f.name, 0) for f in dataclasses.fields(Counters)})
        self.latest = self.before
        if same_command:
            self.offset["actor_restarts"] = int(state["restarts_of_command"])

    def faults(self) -> dict[str, int]:
        """The faults of the run, as of the last `total`."""
        return {name: getattr(self.latest, name) for name in FAULTS}
