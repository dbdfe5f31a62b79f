"""Settings that are drawn from a space, or moved within it, without an optuna trial."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FACTORS = (0.8, 1.25)
"""By one of these a number changes where a member goes on with other settings."""


class Explorer:
    """Answers a space as an optuna trial does: with what was suggested before, changed by a factor, or drawn anew.

    >>> explorer = Explorer({"noise": 0.1, "steps": 40}, None)
    >>> explorer.suggest_float("noise", 1e-3, 0.05, log=True), explorer.suggest_int("steps", 5, 100)
    (0.05, 40)
    """

    def __init__(self, before: Mapping[str, Any], rng: np.random.Generator | None):
        """An explorer of the settings `before`; without a generator it repeats them."""
        self.before, self.rng = before, rng
        self.settings: dict[str, Any] = {}
        """What it has answered, by name."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number within bounds."""
        value = self._moved(name) if name in self.before else self._drawn(low, high, log)
        return self._answer(name, min(max(value, low), high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number within bounds; it changes by 1 at least."""
        if name in self.before:
            value = self._moved(name)
            number = math.floor(value) if value < self.before[name] else math.ceil(value)
        else:
            number = round(self._drawn(low - 0.5, high + 0.5, log))
        return self._answer(name, min(max(number, low), high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """A choice, which never changes."""
        if name in self.before:
            return self._answer(name, self.before[name])
        assert self.rng is not None
        return self._answer(name, choices[int(self.rng.integers(len(choices)))])

    def _moved(self, name: str) -> float:
        value = self.before[name]
        return float(value if self.rng is None else value * self.rng.choice(FACTORS))

    def _drawn(self, low: float, high: float, log: bool) -> float:
        assert self.rng is not None
        return float(math.exp(self.rng.uniform(math.log(low), math.log(high))) if log else self.rng.uniform(low, high))

    def _answer(self, name: str, value: Any) -> Any:
        self.settings[name] = value
        return value
