"""Persistent chain states, by lane."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy import ndarray

from pipeline.chains.lanes import Lane
from pipeline.errors import InputError
from pipeline.recipe import ChainSettings


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
        self.filled = {lane.index: np.zeros(lane.size(self.size), bool) for lane in lanes}
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
        slots = rng.choice(free, n, replace=False) if index is None else index // lane.count
        self.in_flight[p][slots] = True
        kept = self.filled[p][slots] & (rng.random(n) >= self.settings.restart_prob)
        return slots, _where(kept, self.states[p][slots], fresh) if kept.any() else fresh

    def put(self, lane: Lane, slots: Int64[ndarray, " n"], x: Float[ndarray, "n *d"]) -> None:
        """Write moved states back to the slots they were drawn from."""
        if not self.settings.bank:
            return
        p = lane.index
        if p not in self.states:
            self.states[p] = np.zeros((lane.size(self.size), *x.shape[1:]), x.dtype)
        self.states[p][slots] = x
        self.filled[p][slots], self.in_flight[p][slots] = True, False

    def mark_in_flight(self, lane: Lane, slots: Int64[ndarray, " n"]) -> None:
        """Mark slots as in flight: what a resumed run does for the answers it still has to hand out."""
        if self.settings.bank:
            self.in_flight[lane.index][slots] = True

    def state_dict(self, lane: Lane) -> dict[str, ndarray]:
        """The lane's states, by name."""
        p = lane.index
        return {"states": self.states[p], "filled": self.filled[p]} if p in self.states else {}

    def load_state_dict(self, lane: Lane, state: Mapping[str, ndarray]) -> None:
        """Take over the lane's states."""
        if state:
            self.states[lane.index] = np.array(state["states"])
            self.filled[lane.index] = np.array(state["filled"], bool)


def _where(mask: Bool[ndarray, " n"], a: ndarray, b: ndarray) -> ndarray:
    return np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def check_chains(chains: Mapping[str, ChainSettings], lanes: int, lag: int) -> None:
    """Raise InputError where the lanes do not divide the chains, or a bank cannot give what is drawn from it."""
    for name, chain in chains.items():
        if chain.restart_prob and not chain.bank:
            raise InputError("needs a bank: without one every chain starts anew", "restart_prob", chain.restart_prob)
        if chain.count % lanes:
            raise InputError(
                f"{chain.count} {name} chains per update cannot be split into {lanes} lanes: use a multiple"
            )
        if not chain.bank or chain.bank == "datum":
            continue
        if Lane(lanes - 1, lanes).size(chain.bank) < (lag + 1) * chain.count // lanes:
            need = f"{chain.count} {name} chains per update at lag {lag} on {lanes} lanes need"
            raise InputError(f"{need} {(lag + 1) * chain.count} states or more", "bank", chain.bank)
