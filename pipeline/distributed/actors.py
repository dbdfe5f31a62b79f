"""ChainActor: networks, the weights they hold now, and the pure step that moves chains."""

import os
from typing import Any

import ray
import torch
from ray.actor import ActorHandle

from pipeline.batch import Spec
from pipeline.chains.task import ChainResult, ChainTask, advance
from pipeline.nets.bfloat16 import unpack
from pipeline.nets.weights import load, partition, without_gradients
from pipeline.process import configure_process
from pipeline.recipe import Recipe, init_networks
from pipeline.runs.job import Job

MAX_DEATHS = 3
"""Deaths of its actor that a task or an observer survives. Tasks are pure, so Ray may simply run them again."""


class ChainActor:
    """Moves chains. No result depends on its state, so it may die at any time."""

    def __init__(self, recipe: Recipe, spec: Spec, threads: int, deterministic: bool = False):
        configure_process(threads, deterministic)
        device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self.recipe, self.nets = recipe, without_gradients(init_networks(recipe, spec, 0, device))
        self.loaded: list[bytes] = []
        """Names of the arrays that the networks hold: a reference would keep them in the object store."""

    def advance(self, task: ChainTask, weights: list[ray.ObjectRef]) -> ChainResult:
        """Move a task's chains under the given weights.

        Args:
            task: the chains.
            weights: references to flat arrays: one of all networks, or two, of the networks that learn and of the
                frozen ones. The actor fetches only those that it has not loaded yet.
        """
        parts = partition(self.nets, self.recipe.frozen if len(weights) > 1 else ())
        names = [ref.binary() for ref in weights]
        loaded = self.loaded if len(self.loaded) == len(names) else [b""] * len(names)
        for nets, ref, name, there in zip(parts, weights, names, loaded, strict=False):
            if name != there:
                load(nets, unpack(ray.get(ref)))
        self.loaded = names
        return advance(self.recipe, self.nets, task)

    def pid(self) -> int:
        """The actor's process id."""
        return os.getpid()


def start_chain_actors(
    job: Job[Any], spec: Spec, count: int, cpus: float, gpus: float, kind: type[ChainActor] = ChainActor
) -> list[ActorHandle]:
    """Start `count` actors that move the job's chains, each with its CPUs and GPUs; who starts them ends them."""
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": MAX_DEATHS}
    remote = ray.remote(**options)(kind)
    process = job.resources.threads, job.resources.deterministic
    return [remote.remote(job.recipe, spec, *process) for _ in range(count)]
