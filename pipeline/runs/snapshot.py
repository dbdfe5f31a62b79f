"""A run's model, finished or not: its networks, frozen, as its newest checkpoint has them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.weights import Nets, eval_copy
from pipeline.recipe import init_networks
from pipeline.runs import checkpoint
from pipeline.runs.job import Job, check_identity, load_dataset
from pipeline.runs.storage import Storage
from pipeline.samplers.hmc import HMC
from pipeline.samplers.langevin import Langevin
from pipeline.training.divergence import DivergenceMonitor

TRIES = 5
"""Checkpoints that may be taken away, one after the other, while they are read: a run keeps only its newest."""


class Snapshot(NamedTuple):
    """A run's networks, frozen, as one of its checkpoints has them."""

    job: Job[Any]
    data: Dataset
    nets: Nets
    update: int
    place: Storage
    """The checkpoint."""
    bank: Tensor | None
    """(n, *d) states of the model's bank that have moved, over all lanes; None without a bank."""
    monitor: DivergenceMonitor
    """What the run's divergence was judged by up to there."""
    attempt: int = 0
    """Rollbacks that the run had made."""

    @property
    def energy(self) -> Energy:
        """Of the chains of the recipe's model."""
        return self.job.recipe.target(self.job.recipe.sample_chain, self.nets, None)

    @property
    def kernel(self) -> Langevin | HMC:
        """That of the model's chains."""
        found: Langevin | HMC = self.job.recipe.sampler(self.job.recipe.sample_chain, self.nets, self.update)
        return found

    @property
    def langevin(self) -> Langevin:
        """The same. Raises BadInput where it is no Langevin dynamics."""
        sampler = self.kernel
        if not isinstance(sampler, Langevin):
            raise InputError(f"{self.job.out}: its chains are no Langevin dynamics")
        return sampler


def newest_snapshot(job: Job[Any], device: torch.device) -> Snapshot:
    """The model of a run at its newest whole checkpoint; the run may still be at work.

    Raises:
        BadInput: there is no checkpoint, the data are not to be had, or either is of another run.
    """
    checkpoints, data = Storage.at(job.out) / "checkpoints", load_dataset(job)
    model = Snapshot(
        job,
        data,
        eval_copy(init_networks(job.recipe, data.spec, job.seed, device)),
        0,
        checkpoints,
        None,
        DivergenceMonitor(0),
    )
    for _ in range(TRIES):
        name = checkpoint.newest_name(checkpoints)
        if name is None:
            break
        try:
            return _at(model, checkpoints / name)
        except FileNotFoundError:
            if checkpoint.newest_name(checkpoints) == name:
                raise
    raise InputError(f"{job.out} has no checkpoint yet")


def all_snapshots(model: Snapshot) -> Iterator[Snapshot]:
    """The model at each of its run's checkpoints, oldest first; its networks are the same objects each time."""
    checkpoints = Storage.at(model.job.out) / "checkpoints"
    for name in checkpoint.whole_names(checkpoints):
        yield _at(model, checkpoints / name)


def _at(model: Snapshot, place: Storage) -> Snapshot:
    """The model at a checkpoint, whose weights its networks are given."""
    job, state, monitor = model.job, checkpoint.read_state(place), DivergenceMonitor(model.job.divergence.patience)
    check_identity(job, model.data.key, state["identity"], place.path)
    own, bank = checkpoint.read_part(place, "learner"), _bank(job, place)
    for name, weights in own["networks"].items():
        model.nets[name].load_state_dict(weights)
    monitor.load_state_dict(own["monitor"])
    return Snapshot(job, model.data, model.nets, state["update"], place, bank, monitor, len(state["rollbacks"]))


def _bank(job: Job[Any], place: Storage) -> Tensor | None:
    found = []
    for lane in range(job.lanes if any(chain.bank for chain in job.recipe.chains.values()) else 0):
        bank = checkpoint.read_part(place, f"lane-{lane:04d}")["banks"].get(job.recipe.sample_chain)
        found += [bank["states"][bank["put_once"].bool()]] if bank else []
    return torch.cat(found) if found else None
