"""What divergence is: a number that is not finite, or one that has left all that the run has seen of it.

What is done about it, stop or roll back, is the loop's.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

QUANTITIES = ("chain states", "loss", "gradient")
"""What is looked at on every lane before the weights move; bit i of a lane's flag says that the i-th is not finite."""

WATCHED = {
    "gap": "|E_data U - E_chains U|, d of 1903.12370",
    "grad_norm": "the gradient along the chains, v of 1903.12370",
    "rms": "root mean square of the chains' states: it grows where they saturate",
    "rms_displacement": "root mean square distance that chains went: it falls where a bank freezes",
}
"""Metrics of chains whose history is kept, by the last part of their names. They are alike on all ranks."""

WINDOW = 2000
"""Updates of history that are kept."""
SETTLED = 50
"""Updates of history before anything but a non-finite number is called divergence."""
LEAST = {"gap": 100.0, "grad_norm": 100.0, "rms": 5.0, "rms_displacement": 5.0}
"""Factor from the history below which nothing is outside, however steady it was. Differences of energies and
gradients grow fiftyfold, in health, where a network that was slow at first begins to tell data from noise."""
MOST = 1000.0
"""Factor from the history beyond which everything is outside."""
DEVIATIONS = 6.0
"""Robust standard deviations of the logarithm, from the quartile of the history, that are outside between those two."""


def nonfinite_flag(*quantities: list[Tensor]) -> Tensor:
    """One number, 0 where all of the QUANTITIES are finite, without waiting for the device."""
    bad = [
        (~torch.stack([t.isfinite().all() for t in group]).all()).float() * 2**i
        for i, group in enumerate(quantities)
        if group
    ]
    return torch.stack(bad).sum()


def flagged_quantity(flag: int) -> str:
    """The first quantity that a lane's flag names."""
    return next(q for i, q in enumerate(QUANTITIES) if flag >> i & 1)


class Rollback(NamedTuple):
    """A divergence that a run came back from."""

    update: int
    """Where it diverged."""
    to: int
    """Where it went on from, with the next attempt's random numbers."""
    why: str


class DivergenceMonitor:
    """The history of a run's WATCHED metrics, and how long each has been outside of it.

    A metric is outside where it is not finite, or where its logarithm lies beyond the quartile of what was seen before
    the last `patience` updates by more than DEVIATIONS robust standard deviations (1.48 median absolute deviations)
    within LEAST and MOST: above the lower quartile, or below the upper one for the distance moved. The quartile is that
    far from what is watched for, so that a run which diverges early does not become its own measure.
    """

    def __init__(self, patience: int):
        self.patience = patience
        self.history: dict[str, list[float]] = {}
        self.outside: dict[str, int] = {}
        """Updates in a row, up to now, by metric."""

    def update(self, metrics: Mapping[str, float]) -> str:
        """Take one update's metrics into the history; the name of one not finite or outside for too long, or ""."""
        bad = ""
        for name, value in metrics.items():
            kind = name.rpartition("/")[2]
            if kind in WATCHED and name.startswith(("chains/", "energy/")):
                past = self.history.get(name, [])
                self.history[name] = [*past[-WINDOW + 1 :], value]
                outside = _outside(value, past[: max(0, len(past) + 1 - self.patience)], kind)
                self.outside[name] = self.outside.get(name, 0) + 1 if self.patience and outside else 0
                if not np.isfinite(value) or (self.patience and self.outside[name] >= self.patience):
                    bad = bad or name
        return bad

    def explain(self, name: str) -> str:
        """What is wrong with a metric that `see` has named."""
        value, past = self.history[name][-1], np.abs(self.history[name][: -self.patience or None])
        if not np.isfinite(value):
            return "not finite"
        return f"{value:.3g}, {self.patience} updates far from all before (median {np.median(past):.3g})"

    @property
    def any_outside(self) -> bool:
        """Whether anything is outside now, though perhaps not for long: no time for a checkpoint to go back to."""
        return any(self.outside.values())

    @property
    def has_history(self) -> bool:
        """Whether there is enough of a history that a run which had diverged would have been told."""
        return not self.patience or all(len(past) >= SETTLED + self.patience for past in self.history.values())

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The history."""
        outside = {name: torch.tensor(n) for name, n in self.outside.items()}
        history = {name: torch.tensor(values, dtype=torch.float64) for name, values in self.history.items()}
        return {"history": history, "outside": outside}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over a history."""
        self.history = {name: values.tolist() for name, values in state["history"].items()}
        self.outside = {name: int(n) for name, n in state["outside"].items()}


def _outside(value: float, past: list[float], kind: str) -> bool:
    if len(past) < SETTLED:
        return False
    below = kind == "rms_displacement"
    logs = np.log(np.maximum(np.abs(past), 1e-30))
    spread = 1.4826 * np.median(np.abs(logs - np.median(logs)))
    away = np.log(max(abs(value), 1e-30)) - np.quantile(logs, 0.75 if below else 0.25)
    return bool((-away if below else away) > np.clip(DEVIATIONS * spread, np.log(LEAST[kind]), np.log(MOST)))
