"""How many actors one pool keeps busy, and at which rate it saturates: actors that only wait, and import no torch.

Two tasks are queued on each actor (lag 1). The busy share is what the actors waited, over the wall time of all of them.
"""

import time
from types import SimpleNamespace

import numpy as np

from benchmarks.timing import Row, faster
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.cluster import connected

ACTORS = (8, 16, 32, 64)
WAIT = 0.25
"""Seconds of a task."""
ENOUGH = 0.95
"""Busy share at which a pool is not yet saturated."""
SECONDS = 10.0
"""Of one measurement, after two updates to warm up."""
WEIGHTS = np.zeros(1_000_000, np.float32)
STATES = np.zeros((50, 1, 28, 28), np.float32)


def actor_class():
    class Waiting:  # here, so that it travels by value and its process imports nothing else
        """Answers a task with its own states after a wait; fetches the weights as a ChainActor does."""

        def __init__(self):
            self.version = None

        def advance(self, task, weights):
            import ray

            if self.version != weights[0]:
                ray.get(weights[0])
                self.version = weights[0]
            time.sleep(task.wait)
            return SimpleNamespace(x=task.x)

    return Waiting


def busy_share(actors, wait: float) -> float:
    """Share of the time that the actors wait, in the steady state."""
    pool = ActorPool(actors)
    tasks = [
        SimpleNamespace(chain="model", lane=SimpleNamespace(index=p), seed=p, x=STATES, wait=wait)
        for p in range(len(actors))
    ]
    updates, update = max(4, round(SECONDS / max(wait, 0.001))), 0
    for update in range(2):
        pool.submit(update, tasks, WEIGHTS)
    began = 0.0
    for update in range(updates + 2):
        pool.collect(update)
        pool.submit(update + 2, tasks, WEIGHTS)
        if update == 1:
            began = time.perf_counter()
        if update > 5 and time.perf_counter() - began > SECONDS:
            break
    share = wait * (update - 1) / (time.perf_counter() - began)
    pool.drain()
    return share


def saturation(actors) -> float:
    """Tasks a second at the shortest wait, of those halved from 250 ms on, at which the busy share is still enough.

    Between it and the next the wait is refined twice.
    """
    good, bad = WAIT, 0.0
    wait = WAIT / 2
    for _ in range(8):
        if busy_share(actors, wait) >= ENOUGH:
            good = wait
        else:
            bad = wait
        wait = good / 2 if not bad else (good + bad) / 2
        if bad and bad > 0.85 * good:
            break
    return len(actors) / good


def rows() -> list[Row]:
    import ray

    found = []
    with connected():
        remote = ray.remote(num_cpus=0.01)(actor_class())
        actors = []
        for number in ACTORS:
            actors += [remote.remote() for _ in range(number - len(actors))]
            ray.get([actor.__ray_ready__.remote() for actor in actors])
            found.append(
                faster(f"{number} actors, tasks of 250 ms: busy share of all", "1", busy_share(actors, WAIT), 1.0)
            )
            if number == 16:
                rate = saturation(actors)
        found.append(faster("16 actors: rate at which the pool saturates, aim 200", "tasks/s", rate, 200.0))
        for actor in actors:
            ray.kill(actor)
    return found


if __name__ == "__main__":
    for row in rows():
        print(row)
