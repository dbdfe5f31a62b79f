"""Measurements and their protocols: two numbers are comparable where the hashes of their protocols are equal."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from torch import Tensor

from pipeline.chains.local_pool import Pool
from pipeline.data.dataset import Dataset
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.langevin import Langevin

Split: TypeAlias = Literal["data", "test", "validation"]
"""The training items, or those held out for evaluation or for model selection."""
MapFunction: TypeAlias = Callable[[Callable[[Tensor], Any], Iterable[Tensor]], Iterable[Any]]
"""`map`, or a version of it that spreads the calls over processes."""


@dataclass(frozen=True)
class Protocol:
    """Everything that a number depends on beside the model's weights."""

    group: str
    """What is measured."""
    start: tuple[str, ...]
    """Where chains start; empty: no chain runs."""
    steps: int
    """K of the model's own chains; further steps are in `more`."""
    drift: float
    noise: float
    temperature: float
    seed: int
    n: int
    """Chains per start, or items."""
    reference: str
    """Split, number of items, and fingerprint of the data that the number refers to."""
    features: str = ""
    weights: Literal["last"] = "last"
    """The checkpoint's weights, not an average over updates (there is none)."""
    precision: Literal["highest"] = "highest"
    """That of every evaluation, whatever the run learned at."""
    more: Mapping[str, int | float | str] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """The protocol as JSON."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "more"}
        return {**own, "start": list(self.start), **self.more}

    @property
    def hash(self) -> str:
        """First 12 digits of the SHA-256 of the content."""
        return sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Measurement:
    """A number, its uncertainty, and its protocol."""

    name: str
    value: float
    protocol: Protocol
    standard_error: float | None = None
    ess: float | None = None
    """Effective sample size of the chains or draws behind the number."""
    note: str = ""
    """Why the number is not reliable; empty where nothing speaks against it."""

    def content(self) -> dict[str, Any]:
        """The measurement as JSON; a number that is not finite says so."""
        note = self.note or (None if math.isfinite(self.value) else "not finite")
        more = {"standard_error": self.standard_error, "ess": self.ess, "note": note}
        present = {name: value for name, value in more.items() if value is not None}
        return {"value": self.value, **present, "protocol": self.protocol.hash}


def to_json(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """`metrics` by name, each with the hash of its protocol, and `protocols` by hash."""
    return {
        "metrics": {one.name: one.content() for one in measurements},
        "protocols": {one.protocol.hash: one.protocol.content() for one in measurements},
    }


@dataclass(frozen=True)
class EvaluationSetup:
    """What every measurement needs: a model, the pool that moves its chains, the data to compare with, and a seed."""

    snapshot: Snapshot
    pool: Pool
    split: Split
    reference: Dataset
    """The items of the split."""
    seed: int
    map_function: MapFunction = map
    """What spreads the computation of features."""

    def protocol(
        self, group: str, start: tuple[str, ...], n: int, features: str = "", **more: int | float | str
    ) -> Protocol:
        """The protocol of a number that is measured with the model's own chains."""
        sampler, data = self.snapshot.sampler, self.reference
        kernel = (sampler.steps, sampler.drift, sampler.noise) if isinstance(sampler, Langevin) else (0, 0.0, 0.0)
        reference = f"{self.split}, {data.size} items of {data.fingerprint}"
        return Protocol(group, start, *kernel, sampler.temperature, self.seed, n, reference, features, more=more)
