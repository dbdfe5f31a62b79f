"""A run from its first update to its last: checkpoints, and machines that are lost at a given rate."""

import math
import random
from dataclasses import dataclass

from pipeline.planning.costs import JobCosts
from pipeline.planning.machines import Layout, Machines
from pipeline.planning.steady import Steady

MOST_FAULTS = 10_000
"""After which a run counts as one that never ends."""


@dataclass(frozen=True)
class WholeRun:
    """What a run takes."""

    hours: float
    """From the first update to the last; infinite where machines are lost faster than checkpoints are written."""
    faults: int
    """Machines lost on the way."""
    repeated: int
    """Updates that were made again, from the newest checkpoint on."""


def whole_run(
    job: JobCosts, machines: Machines, layout: Layout, steady: Steady, updates: int, seed: int = 0
) -> WholeRun:
    """The hours of a run of so many updates, each as long as in the steady state.

    After each `checkpoint_every` updates the pool is emptied, so that under a lag the learner waits for its chains as
    at the start, and a checkpoint is written. When a machine is lost, its processes are at work again after
    `machines.recovery` seconds. If it had a learner, all learners go on from the newest checkpoint; if it had none, the
    tasks wait for its actors.

    Args:
        job: its costs.
        machines: it runs on.
        layout: of the job.
        steady: the steady state of that layout.
        updates: of the run.
        seed: of when machines are lost, and which.
    """
    rng, rate = random.Random(seed), machines.faults * machines.nodes / 3600
    with_learners = min(machines.nodes, layout.learners) / machines.nodes
    pause = job.checkpoint + (steady.chain_seconds if layout.lag else 0.0)
    now = 0.0
    done = newest = faults = repeated = 0
    until_fault = rng.expovariate(rate) if rate else math.inf
    while done < updates:
        some = min(newest + job.checkpoint_every, updates) - done
        needed = some * steady.seconds + pause
        if until_fault >= needed:
            now, until_fault, done = now + needed, until_fault - needed, done + some
            newest = done
            continue
        now, faults = now + until_fault + machines.recovery, faults + 1
        if faults == MOST_FAULTS:
            return WholeRun(math.inf, faults, repeated)
        done += min(some, int(until_fault / steady.seconds))
        if rng.random() < with_learners:
            repeated += done - newest
            done = newest
        until_fault = rng.expovariate(rate)
    return WholeRun(now / 3600, faults, repeated)
