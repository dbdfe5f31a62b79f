"""ChainActor: networks, their weights cached by version, and the pure step."""

import os
from collections.abc import Sequence

import ray
import torch
from ray._private.state import actors as actor_table
from ray.actor import ActorHandle

from pipeline.batch import Spec
from pipeline.chains.task import ChainResult, ChainTask, advance
from pipeline.nets.weights import eval_copy, load, partition
from pipeline.process import configure_process
from pipeline.recipe import Recipe, init_networks


class ChainActor:
    """Moves chains for whoever asks. It has no state that an answer depends on, so it may die at any time."""

    def __init__(self, recipe: Recipe, spec: Spec, threads: int):
        configure_process(threads)
        device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self.recipe, self.nets = recipe, eval_copy(init_networks(recipe, spec, 0, device))
        self.versions: list[ray.ObjectRef] = []

    def advance(self, task: ChainTask, weights: list[ray.ObjectRef]) -> ChainResult:
        """Move a task's chains under the weights referred to, which are fetched only if not here yet.

        Those of all networks; or of those that learn, and of those that never do.
        """
        parts = partition(self.nets, self.recipe.frozen if len(weights) > 1 else ())
        known = self.versions if len(self.versions) == len(weights) else [None] * len(weights)
        for nets, version, here in zip(parts, weights, known, strict=False):
            if version != here:
                load(nets, ray.get(version))
        self.versions = weights
        return advance(self.recipe, self.nets, task)

    def pid(self) -> int:
        """The actor's process."""
        return os.getpid()


def restart_count(handles: Sequence[ActorHandle]) -> int:
    """How often the actors were restarted so far, all together."""
    return sum(actor_table(handle._actor_id.hex()).get("NumRestarts", 0) for handle in handles)
