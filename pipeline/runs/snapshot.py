"""Snapshot: a run's model as one of its checkpoints has it, with what else evaluation needs of the run."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import init_networks
from pipeline.runs import checkpoint
from pipeline.runs.job import Job, load_dataset
from pipeline.runs.job_json import check_identity
from pipeline.runs.storage import Storage
from pipeline.samplers.hmc import HMC
from pipeline.samplers.langevin import Langevin
from pipeline.schedule import Setting

TRIES = 5
"""A run at work may remove a checkpoint while it is read; so many in a row, and reading fails."""


class Snapshot(NamedTuple):
    """A run's networks, in eval mode and without gradients, at one of its checkpoints."""

    job: Job[Any]
    data: Dataset
    nets: Nets
    update: int
    """Updates that the networks have made."""
    bank: Tensor | None = None
    """(n, *d) states of the sample chain's bank, over all lanes, without slots that are still empty; None: no bank."""
    history: Mapping[str, list[float]] = {}
    """Recent values of the metrics by which the run detects divergence, by name."""
    outside: Mapping[str, int] = {}
    """Consecutive updates that each of them has been outside its history."""
    attempt: int = 0
    """Rollbacks that the run has made."""

    @property
    def device(self) -> torch.device:
        """Of the networks."""
        return device_of(self.nets)

    @property
    def recipe(self) -> Any:
        """The recipe with the settings of the last update."""
        return self.job.recipe_at(self.update - 1)

    @property
    def settings(self) -> dict[str, Setting]:
        """The settings of the last update that differ from the recipe of the run's first, by name."""
        return self.job.settings_at(self.update - 1)

    @property
    def energy(self) -> Energy:
        """The target of the sample chain."""
        energy: Energy = self.recipe.target(self.recipe.sample_chain, self.nets, None)
        return energy

    @property
    def sampler(self) -> Langevin | HMC:
        """The kernel of the sample chain."""
        sampler: Langevin | HMC = self.recipe.sampler(self.recipe.sample_chain, self.nets, self.update)
        return sampler

    @property
    def langevin(self) -> Langevin:
        """The same kernel. Raises InputError where it is not Langevin dynamics."""
        sampler = self.sampler
        if not isinstance(sampler, Langevin):
            raise InputError("its chains are not Langevin dynamics", "run", self.job.out)
        return sampler


def newest_snapshot(job: Job[Any], device: torch.device) -> Snapshot:
    """A run's model at its newest whole checkpoint; the run may still be at work.

    Raises:
        InputError: there is no checkpoint, the data cannot be read, or either belongs to another run.
    """
    checkpoints = Storage.at(job.out) / "checkpoints"
    snapshot = _initial(job, device)
    for _ in range(TRIES):
        name = checkpoint.newest_name(checkpoints)
        if name is None:
            break
        try:
            return _at(snapshot, checkpoints / name)
        except FileNotFoundError:
            if checkpoint.newest_name(checkpoints) == name:
                raise
    raise InputError("there is no checkpoint yet", "run", job.out)


def open_snapshot(job: Job[Any], device: torch.device, update: int | None = None) -> Snapshot:
    """A run's model at the checkpoint of an update; None: at the newest.

    Raises:
        InputError: there is no such checkpoint, the data cannot be read, or either belongs to another run.
    """
    if update is None:
        return newest_snapshot(job, device)
    checkpoints = Storage.at(job.out) / "checkpoints"
    updates = [checkpoint.update_of(name) for name in checkpoint.whole_names(checkpoints)]
    if update not in updates:
        has = f"the run has {', '.join(map(str, updates))}; it removes older ones" if updates else "there is none yet"
        raise InputError(has, "checkpoint", update)
    return _at(_initial(job, device), checkpoint.checkpoint_folder(checkpoints, update))


def all_snapshots(snapshot: Snapshot) -> Iterator[Snapshot]:
    """The model at each of its run's checkpoints, oldest first; its networks are the same objects each time."""
    checkpoints = Storage.at(snapshot.job.out) / "checkpoints"
    for name in checkpoint.whole_names(checkpoints):
        yield _at(snapshot, checkpoints / name)


def _initial(job: Job[Any], device: torch.device) -> Snapshot:
    data = load_dataset(job)
    nets = init_networks(job.recipe, data.spec, job.seed, device)
    for net in nets.values():
        net.eval().requires_grad_(False)
    return Snapshot(job, data, nets, 0)


def _at(snapshot: Snapshot, place: Storage) -> Snapshot:
    """The snapshot at a checkpoint; its networks take over the checkpoint's weights."""
    job, state = snapshot.job, checkpoint.read_state(place)
    check_identity(job, snapshot.data.fingerprint, state, str(place))
    learner = checkpoint.read_part(place, "learner")
    for name, weights in learner["networks"].items():
        snapshot.nets[name].load_state_dict(weights)
    return snapshot._replace(
        update=state["update"],
        bank=_bank(job, place),
        history={name: values.tolist() for name, values in learner["monitor"]["history"].items()},
        outside={name: int(n) for name, n in learner["monitor"]["outside"].items()},
        attempt=len(state["rollbacks"]),
    )


def _bank(job: Job[Any], place: Storage) -> Tensor | None:
    parts = []
    for lane in range(job.lanes if any(chain.bank for chain in job.recipe.chains.values()) else 0):
        bank = checkpoint.read_part(place, f"lane-{lane:04d}")["banks"].get(job.recipe.sample_chain)
        parts += [bank["states"][bank["filled"].bool()]] if bank else []
    return torch.cat(parts) if parts else None
