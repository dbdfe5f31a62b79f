"""Persistent chain states, by lane."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray

from pipeline.chains.lanes import Lane
from pipeline.errors import InputError
from pipeline.recipe import ChainSettings


class Bank:
    """Persistent states of one chain, for the lanes that one rank works.

    `draw` takes slots out of the bank, and `put` writes moved states back to the same slots, so every slot keeps one
    lineage. A chain starts anew from a slot that was never written, and with probability `restart_prob`. A slot in
    flight cannot be drawn.
    """

    def __init__(self, settings: ChainSettings, lanes: list[Lane], items: int):
        """An empty bank; `items` is the number of data items."""
        self.settings = settings
        self.size = items if settings.bank == "datum" else settings.bank
        self.states: dict[int, ndarray] = {}
        self.filled = {lane.index: np.zeros(lane.size(self.size), bool) for lane in lanes}
        self.in_flight = {lane.index: np.zeros(lane.size(self.size), bool) for lane in lanes}

    def draw(
        self,
        lane: Lane,
        n: int,
        initial_states: Callable[[int], ndarray],
        seed: int,
        index: Int64[ndarray, " n"] | None = None,
    ) -> tuple[ndarray, ndarray]:
        """n slots, and the states to move: the banked ones, and `initial_states(k)` (k, *d) where k chains start anew.

        Slots are drawn without replacement. In a bank of one state per datum they are those of the items `index`, which
        may be in flight where two epochs meet under lag; such a chain starts from the state that was put last.
        """
        p = lane.index
        if not self.settings.bank:
            return np.arange(n), initial_states(n)
        rng = np.random.default_rng(seed)
        free = np.flatnonzero(~self.in_flight[p])
        slots = rng.choice(free, n, replace=False) if index is None else index // lane.count
        self.in_flight[p][slots] = True
        anew = ~self.filled[p][slots] | (rng.random(n) < self.settings.restart_prob)
        if anew.all():
            return slots, initial_states(n)
        x = self.states[p][slots]
        if anew.any():
            x[anew] = initial_states(int(anew.sum()))
        return slots, x

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
        """Mark slots as in flight; a resumed run does so for results that it has not used yet."""
        if self.settings.bank:
            self.in_flight[lane.index][slots] = True

    def state_dict(self, lane: Lane) -> dict[str, ndarray]:
        """The lane's states by slot, and which slots were ever written; empty before the first `put`."""
        p = lane.index
        return {"states": self.states[p], "filled": self.filled[p]} if p in self.states else {}

    def load_state_dict(self, lane: Lane, state: Mapping[str, ndarray]) -> None:
        """Restore what `state_dict` returned."""
        if state:
            self.states[lane.index] = np.array(state["states"])
            self.filled[lane.index] = np.array(state["filled"], bool)


def check_chains(chains: Mapping[str, ChainSettings], lanes: int, lag: int) -> None:
    """Raise InputError where the lanes do not divide the chains, or a bank is too small for the draws in flight."""
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
