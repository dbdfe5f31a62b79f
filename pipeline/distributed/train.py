"""run_on_ray: Ray Train around the learners, Ray actors around the chains. It knows no paper."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ray
import ray.train.torch
import torch
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError

from pipeline.batch import Spec
from pipeline.chains.local_pool import LocalPool, Pool
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.actors import start_chain_actors
from pipeline.distributed.aside import call_aside, guarded
from pipeline.distributed.locality import actors_by_rank, sources_by_rank
from pipeline.distributed.observe import observers
from pipeline.distributed.placement import actor_places
from pipeline.distributed.ray_private import LearnerConfig, Trainer, actor_nodes, free_resources, restart_count
from pipeline.distributed.shared_weights import SharedWeights, readers_by_rank, start_board
from pipeline.distributed.status import RemoteProgress, RemoteRequest, status_actor
from pipeline.errors import Diverged, LearnersLost, RunError, RunWriteError, Stopped
from pipeline.process import configure_process
from pipeline.progress import TerminalBar
from pipeline.recipe import init_networks
from pipeline.run import run
from pipeline.runs import checkpoint, lease
from pipeline.runs.job import Job, Range
from pipeline.runs.storage import Storage
from pipeline.training.collective import gather, world

RAY_FOLDER = "ray"
"""Of Ray Train's own files, in the run folder while learners are at work."""
MAX_LEARNER_DEATHS = 3
"""Deaths of learners that a run survives without a new checkpoint in between; with one, any number."""
RESIZE_SECONDS = 60.0
"""Between two checks whether there is room for more learners, where their number may change."""


@contextmanager
def chain_actors(job: Job[Any], spec: Spec, places: Sequence[str | None] | None = None) -> Iterator[list[ActorHandle]]:
    """The job's chain actors, for the length of the block, on these nodes or (None) where Ray finds room."""
    resources = job.resources
    places = places or [None] * resources.actors
    handles = start_chain_actors(job, spec, places, resources.cpus_per_actor, resources.gpus_per_actor)
    try:
        yield handles
    except Stopped:  # they end with this process; a kill would show each of their tasks as failed
        raise
    except BaseException:
        _kill(handles)
        raise
    _kill(handles)


def _kill(handles: list[ActorHandle]) -> None:
    for handle in handles:
        ray.kill(handle)


def chain_pool(
    job: Job[Any], spec: Spec, device: torch.device, handles: list[ActorHandle], shared: SharedWeights | None = None
) -> Pool:
    """A pool of these chain actors; without any, a pool that moves the chains in this process, on `device`."""
    if handles:
        return ActorPool(handles, shared)
    return LocalPool(job.recipe, init_networks(job.recipe, spec, job.seed, device))


def run_on_ray(job: Job[Any], spec: Spec, device: torch.device, command: str = "") -> dict[str, Any]:
    """Run a job on the cluster that Ray is connected to; returns the content of result.json.

    Args:
        job: with an absolute path in `out`, and job.json in that folder.
        spec: of its data.
        device: of the learner where the job has 0 learners, so that this process learns.
        command: the name that `lease.acquire` returned; empty: the lease is acquired here.

    Raises:
        RunError: as `pipeline.training.loop.train` does.
        LearnersLost: as `run_learners` does.
    """
    command = command or lease.acquire(Storage.at(job.out))
    places = actor_places(job, free_resources()) if job.resources.learners else None
    with guarded(), observers(job, spec, command), chain_actors(job, spec, places) as handles:
        if job.resources.learners:
            return run_learners(job, spec, handles, command)
        configure_process(job.resources.threads, job.resources.deterministic)
        pool = chain_pool(job, spec, device, handles)
        result = run(job, device, pool, TerminalBar, command, partial(restart_count, handles))
        assert result is not None
        return result


def run_learners(job: Job[Any], spec: Spec, handles: list[ActorHandle], command: str = "") -> dict[str, Any]:
    """Run a job's learners as Ray Train workers; returns the content of result.json.

    Args:
        job: as of `run_on_ray`, with one learner or more.
        spec: of its data.
        handles: the actors that move the chains; empty: each learner moves its own.
        command: as of `run_on_ray`.

    Raises:
        LearnersLost: the learners died more than MAX_LEARNER_DEATHS times without a new checkpoint, or Ray Train's
            controller ended, which keeps files of its own in the run folder.
        RunError: as `pipeline.training.loop.train` does.
    """
    out = Storage.at(job.out)
    command, checkpoints = command or lease.acquire(out), out / "checkpoints"
    with status_actor() as status, _ray_folder(out):
        config = {"job": job, "spec": spec, "actors": handles, "status": status, "command": command}
        while True:
            before = checkpoint.newest_name(checkpoints)
            try:
                trained = before is not None and checkpoint.update_of(before) == job.updates
                minutes = 0.0 if trained else job.resources.minutes  # as `training.loop.train` does
                result = call_aside(_trainer(job, config).fit, minutes).return_value
                break
            except TrainingFailedError as e:
                if checkpoint.newest_name(checkpoints) == before:
                    raise LearnersLost(_death_message(e, before)) from e
            except RayActorError as e:
                raise LearnersLost(f"Ray Train's controller has ended; its error: {_last_line(str(e))}") from e
    if isinstance(result, RunError | Stopped):
        raise result
    return dict(result)


@contextmanager
def _ray_folder(out: Storage) -> Iterator[None]:
    """Remove the files of Ray Train, those of a run that was killed too: the run needs none of them."""
    folder = out / RAY_FOLDER
    if folder.exists():
        folder.delete()
    try:
        yield
    finally:
        with suppress(RunWriteError):  # what ends the run is the error to report
            if folder.exists():
                folder.delete()


def _death_message(error: TrainingFailedError, newest: str | None) -> str:
    """One line with the last line of the error that ended a learner, or Ray Train's controller."""
    texts = [str(e) for e in getattr(error, "worker_failures", {}).values()] or [str(error)]
    since = f"since checkpoint {newest}" if newest else "before the first checkpoint"
    return f"the learners died more than {MAX_LEARNER_DEATHS} times {since}; the last error: {_last_line(texts[0])}"


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "none was given")


def _trainer(job: Job[Any], config: dict[str, Any]) -> Trainer:
    resources, storage = job.resources, Storage.at(job.out) / RAY_FOLDER
    learners, gpus = resources.learners, resources.gpus_per_learner
    return Trainer(
        _learn,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=tuple(learners) if isinstance(learners, Range) else learners,
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": resources.cpus_per_learner, "GPU": gpus},
        ),
        torch_config=LearnerConfig(backend=_backend(gpus)),
        run_config=RunConfig(
            name=str(time.time_ns()),  # new each time, since Ray would resume a run of the same name
            storage_path=storage.path,
            storage_filesystem=storage.fs,
            failure_config=FailureConfig(max_failures=MAX_LEARNER_DEATHS),
        ),
    )


def _backend(gpus: float) -> str:
    """What the ranks talk over, by GPUs per rank: nccl needs one for each, and gloo carries what is on the host."""
    return "cpu:gloo,cuda:nccl" if gpus >= 1 else "gloo"


def _learn(config: dict[str, Any]) -> dict[str, Any] | RunError | Stopped | None:
    """The work of one Ray Train worker: the result on rank 0, None on others, or the fault that ends the run.

    A restart would repeat a RunError, so it is returned; other errors end the worker, and Ray Train restarts it.
    One rank of several may have the fault alone, while the others wait for it. It then records the fault at the status
    actor and ends its process, which breaks their waiting. They, and the workers that Ray Train starts instead, find
    the fault there and return it.
    """
    job, status = config["job"], config["status"]
    configure_process(job.resources.threads, job.resources.deterministic)
    try:
        return ray.get(status.fault.remote()) or _train(config)
    except (Diverged, Stopped) as e:  # all ranks have it at the same update
        return e
    except RunError as e:
        ray.get(status.set_fault.remote(e))
        if world()[1] > 1:
            os._exit(1)
        return e
    except RuntimeError:
        if fault := ray.get(status.fault.remote()):
            return fault
        raise


def _train(config: dict[str, Any]) -> dict[str, Any] | None:
    job, handles, status = config["job"], config["actors"], config["status"]
    device, (rank, _) = ray.train.torch.get_device(), world()
    here = gather((ray.get_runtime_context().get_node_id(), actor_nodes(handles) if rank == 0 else []))
    nodes, rank_nodes = here[0][1], [node for node, _ in here]
    actors = actors_by_rank(nodes, rank_nodes)
    shared = _shared_weights(rank, sources_by_rank(nodes, rank_nodes, actors))
    pool = chain_pool(job, config["spec"], device, [handles[i] for i in actors[rank]], shared)
    everyone = chain_pool(job, config["spec"], device, handles) if handles else pool
    restarts, requested = partial(restart_count, handles), RemoteRequest(status)
    progress = partial(RemoteProgress, status)
    return run(job, device, pool, progress, config["command"], restarts, requested=requested, evaluation_pool=everyone)


def _shared_weights(rank: int, sources: list[list[int]]) -> SharedWeights | None:
    """This rank's part in sharing weights; None where each rank puts those of all its actors. All ranks call this."""
    readers = readers_by_rank(sources)
    if not any(readers):
        return None
    board = gather(start_board(len(sources)) if rank == 0 else None)[0]
    return SharedWeights(board, rank, sources[rank], readers[rank])
