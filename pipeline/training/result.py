"""What result.json says of every run that has ended, well or not."""

import contextlib
from dataclasses import asdict
from typing import Any

from pipeline.errors import Diverged, RunWriteError
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin
from pipeline.training.worker import Worker

COST = ("wall_seconds", "cpu_seconds", "gradient_evaluations", "staleness_waits")


def describe_run(worker: Worker) -> dict[str, Any]:
    """The run, its sampler, cost, rollbacks and faults, as of the last `Accounting.total`."""
    job, counters = worker.job, asdict(worker.accounting.latest)
    return {
        "name": job.name,
        "recipe": to_json(job)["recipe"]["type"].rpartition(".")[2],
        "seed": job.seed,
        "updates": job.updates,
        "sampler": sampler_settings(worker),
        **{name: counters[name] for name in COST},
        "rollbacks": [one._asdict() for one in worker.rollbacks],
        "faults": worker.faults(),
    }


def sampler_settings(worker: Worker) -> dict[str, float]:
    """Steps and temperature of the sample chain's sampler and, of Langevin dynamics, drift and noise."""
    recipe: Any = worker.learner.recipe
    sampler = recipe.sampler(recipe.sample_chain, worker.learner.nets, worker.job.updates)
    own = {"drift": sampler.drift, "noise": sampler.noise} if isinstance(sampler, Langevin) else asdict(sampler)
    return {**own, "steps": sampler.steps, "temperature": sampler.temperature}


def record_divergence(worker: Worker, fault: Diverged) -> None:
    """Write result.json of a run that ends with a fault; a barrier."""
    worker.accounting.total()
    if worker.rank == 0:
        worker.check_lease()
        end = {"update": fault.update, "quantity": fault.quantity, "reason": str(fault)}
        with contextlib.suppress(RunWriteError):  # the divergence itself is what the user must hear of
            Storage.at(worker.job.out).write_json("result.json", {**describe_run(worker), "diverged": end})
