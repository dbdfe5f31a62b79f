"""run(job): Ray Train around the learner, Ray actors around the chains. It knows no paper."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import ray
import ray.train.torch
import torch
from ray.actor import ActorHandle
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from tqdm import tqdm

from pipeline.batch import Spec
from pipeline.chains import LocalPool
from pipeline.distributed.actors import ChainActor
from pipeline.distributed.pool import Pool
from pipeline.distributed.progress import Teller, shown
from pipeline.errors import BadInput, Unanswered
from pipeline.health import Diverged
from pipeline.job import Job
from pipeline.learner import build, world
from pipeline.loop import train
from pipeline.storage import Storage

RESTARTS = 3
"""Deaths of a learner that a run survives."""
RETRIES = 3
"""Deaths of its actor that a task survives; tasks are pure, so Ray may simply run them again."""


@contextmanager
def actors(job: Job[Any], spec: Spec) -> Iterator[list[ActorHandle]]:
    """The job's chain actors, ended with the block."""
    remote = ray.remote(
        num_cpus=job.cpus_per_actor, num_gpus=job.gpus_per_actor, max_restarts=-1, max_task_retries=RETRIES
    )(ChainActor)
    handles = [remote.remote(job.recipe, spec, job.threads) for _ in range(job.actors)]
    try:
        yield handles
    finally:
        for handle in handles:
            ray.kill(handle)


def run(job: Job[Any], spec: Spec, device: torch.device) -> dict[str, Any]:
    """Run a job on the cluster that Ray is connected to; what it wrote to result.json.

    Args:
        job: with `out` absolute, and job.json written there.
        spec: of its data.
        device: of the learner where the job has no learners, so that this process is it.

    Raises:
        Diverged, BadInput, Unanswered: as `pipeline.loop.train` does.
    """
    with actors(job, spec) as handles:
        if job.learners:
            return fit(job, spec, handles)
        torch.set_num_threads(job.threads)
        found = train(job, device, Pool(handles), partial(tqdm, mininterval=1.0))
        assert found is not None
        return found


def fit(job: Job[Any], spec: Spec, handles: list[ActorHandle]) -> dict[str, Any]:
    """Run a job's learners as Ray Train workers, its chains on the actors given, or with the learners if none are."""
    with shown() as board:
        answer = _trainer(job, {"job": job, "spec": spec, "actors": handles, "board": board}).fit().return_value
    if "diverged" in answer:
        raise Diverged(**answer["diverged"])
    for kind in (BadInput, Unanswered):
        if kind.__name__ in answer:
            raise kind(answer[kind.__name__])
    return dict(answer["result"])


def _trainer(job: Job[Any], config: dict[str, Any]) -> TorchTrainer:
    storage = Storage.at(job.out) / "ray"
    return TorchTrainer(
        _learn,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=job.learners,
            use_gpu=job.gpus_per_learner > 0,
            resources_per_worker={"CPU": job.cpus_per_learner, "GPU": job.gpus_per_learner},
        ),
        torch_config=TorchConfig(backend="nccl" if job.gpus_per_learner >= 1 else "gloo"),  # nccl wants a GPU a rank
        run_config=RunConfig(
            name=str(time.time_ns()),  # Ray resumes a run of the same name: ours resumes by its own checkpoints
            storage_path=storage.path,
            storage_filesystem=storage.fs,
            failure_config=FailureConfig(max_failures=RESTARTS),
        ),
    )


def _learn(config: dict[str, Any]) -> dict[str, Any]:
    """What each Ray Train worker does. Faults that a restart would repeat are answers; others end the worker."""
    job, spec, handles = config["job"], config["spec"], config["actors"]
    torch.set_num_threads(job.threads)
    device = ray.train.torch.get_device()
    rank, ranks = world()
    try:
        own = handles[rank::ranks] or handles[rank % max(len(handles), 1) :][:1]  # with fewer actors some are shared
        pool = Pool(own) if own else LocalPool(job.recipe, build(job.recipe, spec, 0, device))
        return {"result": train(job, device, pool, partial(Teller, config["board"]))}
    except Diverged as e:
        return {"diverged": asdict(e)}
    except (BadInput, Unanswered) as e:
        return {type(e).__name__: str(e)}
