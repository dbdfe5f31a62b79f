"""ChainActor: networks, the weights they hold now, and the pure step that moves chains."""

import os
from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.batch import Spec
from pipeline.chains.task import ChainResult, ChainTask, advance
from pipeline.nets.bfloat16 import NetsByPrecision, unpack
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
        self.by_precision = NetsByPrecision(self.nets)
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
                self.by_precision.renew(nets)
        self.loaded = names
        return advance(self.recipe, self.by_precision.at(task.precision), task)

    def pid(self) -> int:
        """The actor's process id."""
        return os.getpid()


def start_chain_actors(
    job: Job[Any],
    spec: Spec,
    places: Sequence[str | None],
    cpus: float,
    gpus: float,
    kind: type[ChainActor] = ChainActor,
) -> list[ActorHandle]:
    """Start actors that move the job's chains, each with its CPUs and GPUs; who starts them ends them.

    Args:
        job: whose chains they move.
        spec: of its data.
        places: the id of each actor's node, where it stays as long as the node lives; None: where Ray finds room.
        cpus: of each.
        gpus: of each.
        kind: of the actors.
    """
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": MAX_DEATHS}
    remote = ray.remote(**options)(kind)
    arguments = job.recipe, spec, job.resources.threads, job.resources.deterministic
    return [remote.options(scheduling_strategy=_on(place)).remote(*arguments) for place in places]


def _on(place: str | None) -> NodeAffinitySchedulingStrategy | None:
    return NodeAffinitySchedulingStrategy(place, soft=True) if place else None
