"""Chains as data: persistent states, tasks that move them, and the one pure step that any process can do.

Everything here is numpy and host memory, so that a task is the same thing to a function call and to a message.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from numpy import ndarray

from pipeline.batch import Batch
from pipeline.errors import BadInput
from pipeline.lanes import Lane
from pipeline.recipe import ChainSettings, Moved, Recipe
from pipeline.rng import generator
from pipeline.samplers import Sampler, Stats
from pipeline.weights import Nets, device_of, load, parted


class ChainTask(NamedTuple):
    """All steps of one lane's chains of one name."""

    chain: str
    lane: Lane
    slots: Int64[ndarray, " n"]
    """Where in the lane's bank the states came from and go back to."""
    x: Float[ndarray, "n *d"]
    context: dict[str, ndarray] | None
    sampler: Sampler
    seed: int
    version: int
    """The update whose weights, as they stood before it, move the chains."""


class ChainBatch(NamedTuple):
    """What comes back: a pure function of the task and the weights it names."""

    lane: Lane
    slots: Int64[ndarray, " n"]
    x: Float[ndarray, "n *d"]
    energy: Float[ndarray, " n"]
    grad_norm: Float[ndarray, " n"]
    accept: Float[ndarray, " n"]
    moved: float
    """Root mean square, over chains and coordinates, of the way from start to end."""
    version: int
    temperature: float
    evaluations: int
    """Gradients of the energy taken, over all chains."""
    cpu_seconds: float
    """Spent by the process that moved them: a measurement, not part of the answer."""


Answers: TypeAlias = dict[tuple[str, int], ChainBatch]
"""The answers of one update, by (chain, index of the lane)."""


def advance(recipe: Recipe, nets: Nets, task: ChainTask) -> ChainBatch:
    """Move a task's chains with `nets`, on the device and with the weights that `nets` have."""
    began = time.process_time()
    device = device_of(nets)
    x = torch.from_numpy(np.array(task.x)).to(device)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    energy = recipe.target(task.chain, nets, tensors(task.context, device) if task.context else None)
    with torch.no_grad():
        x, stats = task.sampler(energy, x, generator(task.seed, device))
    states, energies, grad_norm, accept = (t.contiguous().cpu().numpy() for t in (x, *stats))
    with np.errstate(over="ignore"):  # beyond float32's squares it is infinite, and said to be
        way = float(np.sqrt(np.mean(np.square(states - task.x, dtype=np.float64))))
    return ChainBatch(
        lane=task.lane,
        slots=task.slots,
        x=states,
        energy=energies,
        grad_norm=grad_norm,
        accept=accept,
        moved=way,
        version=task.version,
        temperature=task.sampler.temperature,
        evaluations=len(x) * task.sampler.evaluations,
        cpu_seconds=time.process_time() - began,
    )


def tensors(arrays: Mapping[str, ndarray], device: torch.device | str) -> Batch:
    """The arrays, copied to `device`."""
    return {name: torch.from_numpy(np.array(a)).to(device) for name, a in arrays.items()}


def moved(answer: ChainBatch, device: torch.device | str) -> Moved:
    """An answer as a recipe's losses see it."""
    arrays = {name: getattr(answer, name) for name in ("x", *Stats._fields)}
    found = tensors(arrays, device)
    return Moved(found.pop("x"), Stats(**found))


class Bank:
    """Persistent states of one chain, for the lanes that one rank works.

    A slot never put, or drawn with probability `restart`, starts anew; `put` writes to the slots that were drawn, so
    that every chain keeps its own lineage; slots in flight cannot be drawn.
    """

    def __init__(self, settings: ChainSettings, lanes: list[Lane], items: int):
        """An empty bank; `items` is how many data there are."""
        self.settings = settings
        self.size = items if settings.bank == "datum" else settings.bank
        self.states: dict[int, ndarray] = {}
        self.put_once = {lane.index: np.zeros(lane.size(self.size), bool) for lane in lanes}
        self.in_flight = {lane.index: np.zeros(lane.size(self.size), bool) for lane in lanes}

    def draw(
        self, lane: Lane, fresh: Float[ndarray, "n *d"], seed: int, index: Int64[ndarray, " n"] | None = None
    ) -> tuple[ndarray, ndarray]:
        """Slots, and the states to move: the banked ones, and `fresh` where a chain starts anew.

        Slots are drawn without replacement; or, in a bank of one state a datum, they are those of the items `index`.
        Such a datum may be in flight, at the seam of two epochs under lag: it starts from what came back last.
        """
        n, p = len(fresh), lane.index
        if not self.settings.bank:
            return np.arange(n), fresh
        rng = np.random.default_rng(seed)
        free = np.flatnonzero(~self.in_flight[p])
        slots = rng.choice(free, n, replace=False) if index is None else index // lane.of
        self.in_flight[p][slots] = True
        kept = self.put_once[p][slots] & (rng.random(n) >= self.settings.restart)
        return slots, _where(kept, self.states[p][slots], fresh) if kept.any() else fresh

    def put(self, lane: Lane, slots: Int64[ndarray, " n"], x: Float[ndarray, "n *d"]) -> None:
        """Write moved states back to the slots they were drawn from."""
        if not self.settings.bank:
            return
        p = lane.index
        if p not in self.states:
            self.states[p] = np.zeros((lane.size(self.size), *x.shape[1:]), x.dtype)
        self.states[p][slots] = x
        self.put_once[p][slots], self.in_flight[p][slots] = True, False

    def hold(self, lane: Lane, slots: Int64[ndarray, " n"]) -> None:
        """Mark slots as in flight: what a resumed run does for the answers it still has to hand out."""
        if self.settings.bank:
            self.in_flight[lane.index][slots] = True

    def state_dict(self, lane: Lane) -> dict[str, ndarray]:
        """The lane's states, by name."""
        p = lane.index
        return {"states": self.states[p], "put_once": self.put_once[p]} if p in self.states else {}

    def load_state_dict(self, lane: Lane, state: Mapping[str, ndarray]) -> None:
        """Take over the lane's states."""
        if state:
            self.states[lane.index] = np.array(state["states"])
            self.put_once[lane.index] = np.array(state["put_once"], bool)


def _where(mask: Bool[ndarray, " n"], a: ndarray, b: ndarray) -> ndarray:
    return np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def check_chains(chains: Mapping[str, ChainSettings], lanes: int, lag: int) -> None:
    """Raise BadInput where the lanes do not divide the chains, or a bank cannot give what is drawn from it."""
    for name, chain in chains.items():
        if not 0 <= chain.restart <= 1:
            raise BadInput(f"--restart {chain.restart}: it is a probability")
        if chain.restart and not chain.bank:
            raise BadInput(f"--restart {chain.restart} without --bank: without a bank every chain starts anew")
        if chain.number % lanes:
            raise BadInput(
                f"{chain.number} {name} chains an update cannot be dealt to {lanes} lanes: choose a multiple"
            )
        if not chain.bank or chain.bank == "datum":
            continue
        if Lane(lanes - 1, lanes).size(chain.bank) < (lag + 1) * chain.number // lanes:
            raise BadInput(
                f"a bank of {chain.bank} {name} states is too small: {chain.number} chains an update at lag {lag} "
                f"on {lanes} lanes need {(lag + 1) * chain.number} or more"
            )


@runtime_checkable
class AnyPool(Protocol):
    """What moves chains: a LocalPool, or a Pool of actors."""

    next: int
    """The first update whose chains were not submitted yet."""
    ready: dict[int, Answers]
    """Answers that came back before they were asked for."""
    remote: bool
    """Whether other processes do the work."""
    faults: dict[str, int]
    """Tasks `resent` because they were late or lost, and tries that `died` with an actor that is gone for good."""

    def submit(
        self,
        update: int,
        tasks: list[ChainTask],
        flat: Float32[ndarray, " p"],
        fixed: Float32[ndarray, " q"] | None = None,
    ) -> None:
        """Begin the tasks that `update` will use, under the weights `flat`; again, if it was collected already.

        `fixed` are the weights of the recipe's fixed networks, the same array each time, and `flat` those of the
        others; without it `flat` has them all.
        """

    def collect(self, update: int) -> Answers:
        """The answers of `update`, once all are there."""
        ...

    def drain(self) -> dict[int, Answers]:
        """All answers not collected yet, by update; they stay to be collected."""
        ...

    def forget(self) -> None:
        """Drop all that was submitted, and begin at update 0."""


class LocalPool:
    """Moves chains in this process, with networks of its own: the pool of a run without actors."""

    remote = False

    def __init__(self, recipe: Recipe, nets: Nets):
        self.recipe, self.nets, self.next, self.ready = recipe, frozen(nets), 0, dict[int, Answers]()
        self.faults = {"resent": 0, "died": 0}
        self.fixed: ndarray | None = None

    def submit(
        self,
        update: int,
        tasks: list[ChainTask],
        flat: Float32[ndarray, " p"],
        fixed: Float32[ndarray, " q"] | None = None,
    ) -> None:
        """Move the chains that `update` will use, under the weights `flat`, which all its tasks name, and `fixed`."""
        learned, others = parted(self.nets, self.recipe.fixed if fixed is not None else ())
        load(learned, flat)
        if fixed is not None and fixed is not self.fixed:
            load(others, fixed)
        self.fixed = fixed
        self.ready[update] = {(t.chain, t.lane.index): advance(self.recipe, self.nets, t) for t in tasks}
        self.next = max(self.next, update + 1)

    def collect(self, update: int) -> Answers:
        """The answers of `update`, once."""
        return self.ready.pop(update)

    def drain(self) -> dict[int, Answers]:
        """All answers not collected yet, by update; they stay to be collected."""
        return self.ready

    def forget(self) -> None:
        """Drop all that was submitted, and begin at update 0."""
        self.ready, self.next = {}, 0


def frozen(nets: Nets) -> Nets:
    """The networks as chains need them: in eval mode, with no gradients of parameters."""
    return {name: net.eval().requires_grad_(False) for name, net in nets.items()}
