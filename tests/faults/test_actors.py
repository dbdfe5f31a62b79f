"""Actors that are killed again and again while they work."""

import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from running import CPU, run

from pipeline.batch import Spec
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.ray_private import restart_count
from pipeline.distributed.train import chain_actors
from pipeline.run import run as run_whole
from pipeline.runs.job import override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

pytestmark = pytest.mark.xdist_group("ray")

KILLS = 10
UPDATES_BETWEEN = 4
"""Updates between two kills: by the second, the tasks of the first have their results."""


class Killer:
    """A progress bar that kills one actor after the other, at a random time after every fourth update."""

    def __init__(self, ray, handles):
        self.ray, self.handles, self.done = ray, handles, 0
        self.rng = np.random.default_rng(0)

    def update(self, n=1):
        self.done += n
        number, rest = divmod(self.done, UPDATES_BETWEEN)
        if n and not rest and 1 <= number <= KILLS:
            pid = self.ray.get(self.handles[number % len(self.handles)].pid.remote())
            threading.Timer(self.rng.uniform(0, 0.3), os.kill, (pid, signal.SIGKILL)).start()

    def set_description(self, desc, refresh=True):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("lag", [0, 1])
def test_ten_kills_change_no_number(ray_session, small, lag):
    recipe = replace(small.recipe, langevin=replace(small.recipe.langevin, steps=300))
    updates = UPDATES_BETWEEN * (KILLS + 1)
    job = override(small, recipe=recipe, actors=2, lag=lag, updates=updates, cpus_per_actor=0.25)
    whole = run(override(job, actors=0, out=job.out + "-plain"))
    Storage.at(job.out).write_json("job.json", to_json(job))
    with chain_actors(job, Spec("image", (1, 8, 8), 10)) as handles:
        pool, count = ActorPool(handles), lambda: restart_count(handles)
        result = run_whole(job, CPU, pool, lambda **settings: Killer(ray_session, handles), restart_count=count)
    assert result["faults"]["actor_restarts"] == KILLS
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert result["gradient_evaluations"] == whole["gradient_evaluations"]
    print(f"lag {lag}: {result['faults']}, {result['wall_seconds']:.0f} s, {result['cpu_seconds']:.0f} CPU s")
