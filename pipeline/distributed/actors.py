"""ChainActor: networks, their weights cached by version, and the pure step."""

import os
from collections.abc import Sequence
from typing import Any

import ray
import torch
from numpy import ndarray
from ray._private.state import actors as actor_table
from ray.actor import ActorHandle

from pipeline.batch import Spec
from pipeline.chains import ChainBatch, ChainTask, advance, frozen
from pipeline.learner import build
from pipeline.process import prepare
from pipeline.recipe import Recipe
from pipeline.weights import load


class ChainActor:
    """Moves chains for whoever asks. It has no state that an answer depends on, so it may die at any time."""

    def __init__(self, recipe: Recipe, spec: Spec, threads: int):
        prepare(threads)
        device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self.recipe, self.nets = recipe, frozen(build(recipe, spec, 0, device))
        self.version: Any = None

    def advance(self, task: ChainTask, weights: list[ray.ObjectRef]) -> ChainBatch:
        """Move a task's chains under the weights whose reference is given; they are fetched only if not here yet."""
        if self.version != weights[0]:
            flat: ndarray = ray.get(weights[0])
            load(self.nets, flat)
            self.version = weights[0]
        return advance(self.recipe, self.nets, task)

    def pid(self) -> int:
        """The actor's process."""
        return os.getpid()


def restarts(handles: Sequence[ActorHandle]) -> int:
    """How often the actors were restarted so far, all together."""
    return sum(actor_table(handle._actor_id.hex()).get("NumRestarts", 0) for handle in handles)
