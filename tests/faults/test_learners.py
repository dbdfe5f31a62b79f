"""Learners of which only one has a fault, and learners that die without progress."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.batch import Spec
from pipeline.distributed import train as distributed
from pipeline.errors import LearnersLost, RunWriteError
from pipeline.recipes.anatomy import Anatomy
from pipeline.runs.job import override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

pytestmark = pytest.mark.xdist_group("ray")

SPEC = Spec("image", (1, 8, 8), 10)


def broken():
    """A class of recipes with a bug at update 3; made here, so that it travels to the learners by value."""

    @dataclass(frozen=True)
    class Broken(Anatomy):
        def losses(self, nets, batch, chains, rng, update):
            if update == 3:
                raise KeyError("no such thing")
            return Anatomy.losses(self, nets, batch, chains, rng, update)

    return Broken


def test_a_fault_of_one_learner_ends_all_with_its_message(ray_session, small):
    job = override(small, learners=2, updates=4000, checkpoint_every=50, cpus_per_learner=0.25)
    Storage.at(job.out).write_json("job.json", to_json(job))
    metrics = Path(job.out) / "metrics.jsonl"

    def block_samples():
        while not metrics.exists() or not metrics.read_text():
            time.sleep(0.02)
        (Path(job.out) / "samples").write_text("a file where the run needs a folder")

    threading.Thread(target=block_samples, daemon=True).start()
    with pytest.raises(RunWriteError, match="cannot be written to"):
        distributed.run_learners(job, SPEC, [])


def test_learners_that_die_without_progress_end_the_run_with_their_error(ray_session, small, monkeypatch):
    monkeypatch.setattr(distributed, "MAX_LEARNER_DEATHS", 1)
    recipe = broken()(langevin=small.recipe.langevin, batch_size=16, width=4)
    job = override(small, recipe=recipe, learners=1, cpus_per_learner=0.25)
    Storage.at(job.out).write_json("job.json", to_json(job))
    with pytest.raises(
        LearnersLost, match=r"died more than 1 times since checkpoint update-00000002; the last error: .*no such"
    ):
        distributed.run_learners(job, SPEC, [])
