"""run(job): Ray Train around the learner, Ray actors around the chains. It knows no paper."""

import os
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
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from tqdm import tqdm

from pipeline.batch import Spec
from pipeline.chains.local_pool import LocalPool
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.actors import ChainActor, restart_count
from pipeline.distributed.observe import observers
from pipeline.distributed.status import RemoteProgress, status_actor
from pipeline.errors import Diverged, InputError, LearnersLost, LeaseLost, RunWriteError, TaskTimeout
from pipeline.process import configure_process
from pipeline.recipe import init_networks
from pipeline.runs import checkpoint, lease
from pipeline.runs.job import Job, Range
from pipeline.runs.storage import Storage
from pipeline.training.collective import world
from pipeline.training.loop import train

RESTARTS = 3
"""Deaths of learners that a run survives without a new checkpoint between them; with one, any number."""
RESIZE = 60.0
"""Seconds between two looks at whether there is room for more learners, where their number may change."""
FAULTS = (InputError, TaskTimeout, RunWriteError, LeaseLost)
"""What a restart would repeat: it is an answer."""
RETRIES = 3
"""Deaths of its actor that a task survives; tasks are pure, so Ray may simply run them again."""


@contextmanager
def chain_actors(job: Job[Any], spec: Spec) -> Iterator[list[ActorHandle]]:
    """The job's chain actors, ended with the block."""
    remote = ray.remote(
        num_cpus=job.resources.cpus_per_actor,
        num_gpus=job.resources.gpus_per_actor,
        max_restarts=-1,
        max_task_retries=RETRIES,
    )(ChainActor)
    handles = [remote.remote(job.recipe, spec, job.resources.threads) for _ in range(job.resources.actors)]
    try:
        yield handles
    finally:
        for handle in handles:
            ray.kill(handle)


def run(job: Job[Any], spec: Spec, device: torch.device, command: str = "") -> dict[str, Any]:
    """Run a job on the cluster that Ray is connected to; what it wrote to result.json.

    Args:
        job: with `out` absolute, and job.json written there.
        spec: of its data.
        device: of the learner where the job has no learners, so that this process is it.
        command: what `owner.claim` said; empty: the run is claimed here.

    Raises:
        Diverged, BadInput, Unanswered, Unwritable, TakenOver: as `pipeline.loop.train` does.
        Lost: as `fit` does.
    """
    command = command or lease.acquire(Storage.at(job.out))
    with observers(job, spec, command), chain_actors(job, spec) as handles:
        if job.resources.learners:
            return fit(job, spec, handles, command)
        configure_process(job.resources.threads)
        progress = partial(tqdm, mininterval=1.0)
        pool = (
            ActorPool(handles) if handles else LocalPool(job.recipe, init_networks(job.recipe, spec, job.seed, device))
        )
        found = train(job, device, pool, progress, command, partial(restart_count, handles))
        assert found is not None
        return found


def fit(job: Job[Any], spec: Spec, handles: list[ActorHandle], command: str = "") -> dict[str, Any]:
    """Run a job's learners as Ray Train workers, its chains on the actors given, or with the learners if none are.

    Raises:
        Lost: the learners died once more than RESTARTS times without a new checkpoint.
        Diverged, BadInput, Unanswered, Unwritable, TakenOver: as `pipeline.loop.train` does.
    """
    command, checkpoints = command or lease.acquire(Storage.at(job.out)), Storage.at(job.out) / "checkpoints"
    with status_actor() as board:
        config = {"job": job, "spec": spec, "actors": handles, "board": board, "command": command}
        while True:
            before = checkpoint.newest_name(checkpoints)
            try:
                answer = _trainer(job, config).fit().return_value
                break
            except TrainingFailedError as e:
                if checkpoint.newest_name(checkpoints) == before:
                    raise LearnersLost(_why(e, before)) from e
    if "diverged" in answer:
        raise Diverged(**answer["diverged"])
    for kind in FAULTS:
        if kind.__name__ in answer:
            raise kind(answer[kind.__name__])
    return dict(answer["result"])


def _why(fault: TrainingFailedError, newest: str | None) -> str:
    """The last line of what a learner, or what looks after them, died of."""
    died = [str(e) for e in getattr(fault, "worker_failures", {}).values()] or [str(fault)]
    last = next((line for line in reversed(died[0].splitlines()) if line.strip()), type(fault).__name__)
    since = f"since checkpoint {newest}" if newest else "before the first checkpoint"
    return f"the learners died more than {RESTARTS} times {since}; at last of: {last.strip()}"


def _trainer(job: Job[Any], config: dict[str, Any]) -> TorchTrainer:
    storage = Storage.at(job.out) / "ray"
    return TorchTrainer(
        _learn,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=tuple(job.resources.learners)
            if isinstance(job.resources.learners, Range)
            else job.resources.learners,
            elastic_resize_monitor_interval_s=RESIZE,
            use_gpu=job.resources.gpus_per_learner > 0,
            resources_per_worker={"CPU": job.resources.cpus_per_learner, "GPU": job.resources.gpus_per_learner},
        ),
        torch_config=TorchConfig(
            backend="nccl" if job.resources.gpus_per_learner >= 1 else "gloo"
        ),  # nccl wants a GPU a rank
        run_config=RunConfig(
            name=str(time.time_ns()),  # Ray resumes a run of the same name: ours resumes by its own checkpoints
            storage_path=storage.path,
            storage_filesystem=storage.fs,
            failure_config=FailureConfig(max_failures=RESTARTS),
        ),
    )


def _learn(config: dict[str, Any]) -> dict[str, Any]:
    """What each Ray Train worker does. Faults that a restart would repeat are answers; others end the worker.

    A fault of one rank of several is said on the blackboard before its process ends, which breaks what the others wait
    for: they, and those that Ray Train starts in their place, find it there, and give it as their answer.
    """
    job, board = config["job"], config["board"]
    configure_process(job.resources.threads)
    if fault := ray.get(board.failed.remote()):
        return dict(fault)
    try:
        return {"result": _trained(config)}
    except Diverged as e:
        return {"diverged": asdict(e)}
    except FAULTS as e:
        fault = {type(e).__name__: str(e)}
        ray.get(board.fail.remote(fault))
        if world()[1] > 1:  # the others wait for this rank's word, and notice only that its process ends
            os._exit(1)
        return fault
    except RuntimeError:
        if fault := ray.get(board.failed.remote()):
            return dict(fault)
        raise


def _trained(config: dict[str, Any]) -> dict[str, Any] | None:
    job, spec, handles = config["job"], config["spec"], config["actors"]
    device = ray.train.torch.get_device()
    rank, ranks = world()
    own = handles[rank::ranks] or handles[rank % max(len(handles), 1) :][:1]  # with fewer actors some are shared
    pool = ActorPool(own) if own else LocalPool(job.recipe, init_networks(job.recipe, spec, 0, device))
    return train(
        job, device, pool, partial(RemoteProgress, config["board"]), config["command"], partial(restart_count, handles)
    )
