"""When a run counts as diverged: a number is not finite, or a metric has left the range of the run's own history, or
that of any healthy run.

A runaway need not be fast: it may become its own history. So a run is judged also by a measure that has the same
healthy range in all runs, and a checkpoint in hindsight: by where the runaway began that was noticed later. The loop
decides what follows: stop, or roll back.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

CHECKED = ("chain states", "loss", "gradient")
"""Quantities checked on every lane before the weights change; bit i of a lane's flag: the i-th is not finite."""
MONITORED = {
    "gap": "energy gap |E_data U - E_chains U|, d of 1903.12370",
    "grad_norm": "size of the gradient along the chains, v of 1903.12370",
    "rms": "root mean square of the chains' states; it grows where they saturate",
    "rms_displacement": "root mean square distance between start and end of a chain; it falls where a bank freezes",
}
"""Metrics with a history, by the last part of their names. They are the same on all ranks."""
LIMITS = {"step_ratio": 10.0}
"""Metrics with a range that all healthy runs have, whatever the recipe and the data: the size that the gradient gives a
Langevin step, per coordinate, over what a chain needs of it (`Langevin.step_ratio`). It is between .03 and 1.4 in the
healthy runs that were measured (docs/stability.md); chains whose steps are far larger jump across what they descend
to."""

WINDOW = 2000
"""Updates of history."""
SETTLED = 50
"""Updates of history that a comparison needs; before that, only a non-finite number is divergence."""
LEAST = {"gap": 100.0, "grad_norm": 100.0, "rms": 5.0, "rms_displacement": 5.0}
"""Factor below which nothing is outside the history, however steady it was. Energy gaps and gradients of a healthy run
grow fiftyfold when a network that was slow at first begins to tell data from noise."""
MOST = 1000.0
"""Factor beyond which everything is outside the history."""
DEVIATIONS = 6.0
"""Between these two: robust standard deviations of the logarithm, from the history's quartile, that are outside."""
ON_ITS_WAY = 1 / 3
"""Share of the (logarithmic) way from the quartile to outside, above which a metric that is outside later is on its way
there."""


def nonfinite_flag(*quantities: list[Tensor]) -> Tensor:
    """One number, 0 where all of the CHECKED quantities are finite; computed without waiting for the device."""
    bad = [
        (~torch.stack([t.isfinite().all() for t in group]).all()).float() * 2**i
        for i, group in enumerate(quantities)
        if group
    ]
    return torch.stack(bad).sum()


def flagged_quantity(flag: int) -> str:
    """The first quantity that a lane's flag names."""
    return next(q for i, q in enumerate(CHECKED) if flag >> i & 1)


class Rollback(NamedTuple):
    """A divergence from which a run returned to an earlier checkpoint."""

    update: int
    """Where it diverged."""
    resumed_at: int
    """Where it continued, with the next attempt's random numbers."""
    reason: str


class DivergenceMonitor:
    """The history of a run's MONITORED metrics, and how long each has been outside it.

    A metric is outside where it is not finite, or where its logarithm is DEVIATIONS robust standard deviations (1.48
    median absolute deviations), but at least LEAST and at most MOST, beyond the quartile of its history up to
    `patience` updates ago: above the lower quartile, or below the upper one for the displacement. The far quartile is
    the reference so that a run that diverges early does not become its own yardstick. One of LIMITS is outside above
    its limit.
    """

    def __init__(self, patience: int):
        self.patience = patience
        self.history: dict[str, list[float]] = {}
        self.outside: dict[str, int] = {}
        """Consecutive updates outside, by metric."""

    def update(self, metrics: Mapping[str, float]) -> str:
        """Add one update's metrics; the name of one that is not finite, or outside for too long, or ""."""
        bad = ""
        for name, value in metrics.items():
            kind = name.rpartition("/")[2]
            if kind in (*MONITORED, *LIMITS) and name.startswith(("chains/", "energy/")):
                past = self.history.get(name, [])
                self.history[name] = [*past[-WINDOW + 1 :], value]
                outside = bool(_excess(value, past[: max(0, len(past) + 1 - self.patience)], kind) > 1)
                self.outside[name] = self.outside.get(name, 0) + 1 if self.patience and outside else 0
                if not np.isfinite(value) or (self.patience and self.outside[name] >= self.patience):
                    bad = bad or name
        return bad

    def explain(self, name: str) -> str:
        """What is wrong with a metric that `update` has named, or that is outside at the end."""
        value, past = self.history[name][-1], np.abs(self.history[name][: -self.patience or None])
        if not np.isfinite(value):
            return "not finite"
        n = self.outside[name]
        if (kind := name.rpartition("/")[2]) in LIMITS:
            return f"{value:.3g}, {n} updates above {LIMITS[kind]:g}, which no healthy run exceeds"
        return f"{value:.3g}, {n} updates far from all before (median {np.median(past):.3g})"

    def first_outside(self) -> str:
        """The name of a metric that is outside now, or ""."""
        return next((name for name, n in self.outside.items() if n), "")

    def updates_on_the_way(self) -> int:
        """For how many updates, up to the last, some metric has been on its way to outside; 0: none is.

        What counts is the median over `patience` updates: one update in between does not end the way, and one that
        stands out does not begin it. Energy gaps do not count, since in health they are now great and now small.
        """
        steady = [name for name in self.history if not name.endswith("/gap")]
        return max(map(self._on_the_way, steady), default=0) if self.patience else 0

    def _on_the_way(self, name: str) -> int:
        values = self.history[name]
        if len(values) <= self.patience:
            return 0
        excess = np.asarray(_excess(np.array(values), values[: -self.patience], name.rpartition("/")[2]))
        medians = np.median(np.lib.stride_tricks.sliding_window_view(excess, self.patience), axis=1)
        if medians[-1] < ON_ITS_WAY:
            return 0
        calm = np.flatnonzero(medians < ON_ITS_WAY)
        return len(values) - (int(calm[-1]) + self.patience // 2 if len(calm) else 0)

    @property
    def any_outside(self) -> bool:
        """Whether a metric is outside now, even if not for long; such a checkpoint is not one to return to."""
        return any(self.outside.values())

    @property
    def has_history(self) -> bool:
        """Whether the history is long enough to detect divergence."""
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


def _excess(value: float | ndarray, past: list[float], kind: str) -> float | ndarray:
    """How far values are from the quartile of their past, as a share of the way (in logarithms) to outside."""
    size, below = _log(value), kind == "rms_displacement"
    if kind in LIMITS:
        start = np.quantile(_log(past), 0.25) if len(past) >= SETTLED else 0.0
        start = min(start, np.log(LIMITS[kind]) - 1)  # so that outside is above the limit, whatever the past
        away, room = size - start, np.log(LIMITS[kind]) - start
    elif len(past) < SETTLED:
        return np.zeros_like(size)
    else:
        logs = _log(past)
        away = size - np.quantile(logs, 0.75 if below else 0.25)
        spread = 1.4826 * np.median(np.abs(logs - np.median(logs)))
        room = np.clip(DEVIATIONS * spread, np.log(LEAST[kind]), np.log(MOST))
    return np.nan_to_num((-away if below else away) / room, nan=np.inf)


def _log(values: float | ndarray | list[float]) -> float | ndarray:
    return np.log(np.maximum(np.abs(values), 1e-30))
