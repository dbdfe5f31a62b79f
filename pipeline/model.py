"""A run's model, finished or not: its networks, frozen, as its newest checkpoint has them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline import checkpoint
from pipeline.chains import frozen
from pipeline.data import Dataset
from pipeline.energies import Energy
from pipeline.errors import BadInput
from pipeline.health import Watch
from pipeline.job import Job, check_identity, dataset
from pipeline.learner import build
from pipeline.samplers import HMC, Langevin
from pipeline.storage import Storage
from pipeline.weights import Nets

TRIES = 5
"""Checkpoints that may be taken away, one after the other, while they are read: a run keeps only its newest."""


class Model(NamedTuple):
    """A run's networks, frozen, as one of its checkpoints has them."""

    job: Job[Any]
    data: Dataset
    nets: Nets
    update: int
    place: Storage
    """The checkpoint."""
    bank: Tensor | None
    """(n, *d) states of the model's bank that have moved, over all lanes; None without a bank."""
    watch: Watch
    """What the run's divergence was judged by up to there."""
    attempt: int = 0
    """Rollbacks that the run had made."""

    @property
    def energy(self) -> Energy:
        """Of the chains of the recipe's model."""
        return self.job.recipe.target(self.job.recipe.model, self.nets, None)

    @property
    def kernel(self) -> Langevin | HMC:
        """That of the model's chains."""
        found: Langevin | HMC = self.job.recipe.sampler(self.job.recipe.model, self.nets, self.update)
        return found

    @property
    def langevin(self) -> Langevin:
        """The same. Raises BadInput where it is no Langevin dynamics."""
        sampler = self.kernel
        if not isinstance(sampler, Langevin):
            raise BadInput(f"{self.job.out}: its chains are no Langevin dynamics")
        return sampler


def newest(job: Job[Any], device: torch.device) -> Model:
    """The model of a run at its newest whole checkpoint; the run may still be at work.

    Raises:
        BadInput: there is no checkpoint, the data are not to be had, or either is of another run.
    """
    checkpoints, data = Storage.at(job.out) / "checkpoints", dataset(job)
    model = Model(job, data, frozen(build(job.recipe, data.spec, job.seed, device)), 0, checkpoints, None, Watch(0))
    for _ in range(TRIES):
        name = checkpoint.newest(checkpoints)
        if name is None:
            break
        try:
            return _at(model, checkpoints / name)
        except FileNotFoundError:
            if checkpoint.newest(checkpoints) == name:
                raise
    raise BadInput(f"{job.out} has no checkpoint yet")


def through(model: Model) -> Iterator[Model]:
    """The model at each of its run's checkpoints, oldest first; its networks are the same objects each time."""
    checkpoints = Storage.at(model.job.out) / "checkpoints"
    for name in checkpoint.names(checkpoints):
        yield _at(model, checkpoints / name)


def _at(model: Model, place: Storage) -> Model:
    """The model at a checkpoint, whose weights its networks are given."""
    job, state, watch = model.job, checkpoint.read_state(place), Watch(model.job.patience)
    check_identity(job, model.data.key, state["identity"], place.path)
    own, bank = checkpoint.read_part(place, "learner"), _bank(job, place)
    for name, weights in own["networks"].items():
        model.nets[name].load_state_dict(weights)
    watch.load_state_dict(own["watch"])
    return Model(job, model.data, model.nets, state["update"], place, bank, watch, len(state["rollbacks"]))


def _bank(job: Job[Any], place: Storage) -> Tensor | None:
    found = []
    for lane in range(job.lanes if any(chain.bank for chain in job.recipe.chains.values()) else 0):
        bank = checkpoint.read_part(place, f"lane-{lane:04d}")["banks"].get(job.recipe.model)
        found += [bank["states"][bank["put_once"].bool()]] if bank else []
    return torch.cat(found) if found else None
