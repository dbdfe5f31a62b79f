"""How a number was taken, and the number: two numbers are of one kind where the hashes of their protocols are equal."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from pipeline.chains.local_pool import Pool
from pipeline.data.dataset import Dataset
from pipeline.evaluation.judges.features import MapFunction
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.langevin import Langevin

Split = Literal["data", "test", "validation"]
"""What was learned from, or what was held back for evaluation or for choosing."""


@dataclass(frozen=True)
class Protocol:
    """Everything that a number depends on beside the model's weights."""

    what: str
    """The group of metrics."""
    start: tuple[str, ...]
    """Where chains started; empty: no chain was run."""
    steps: int
    """K of the model's own chains; what else they made is in `more`."""
    drift: float
    noise: float
    temperature: float
    seed: int
    n: int
    """Chains of each start, or items."""
    reference: str
    """Split, number of items, and hash of the data that a number refers to."""
    features: str = ""
    weights: Literal["last"] = "last"
    """Of the networks: those of the checkpoint, no average over updates (none is kept)."""
    more: Mapping[str, int | float | str] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """As JSON has it."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "more"}
        return {**own, "start": list(self.start), **self.more}

    @property
    def hash(self) -> str:
        """First 12 digits of the SHA-256 of the content."""
        return sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Measurement:
    """A number, how sure it is, and how it was taken."""

    name: str
    value: float
    protocol: Protocol
    standard_error: float | None = None
    ess: float | None = None
    """Effective number of the chains or draws behind it."""
    note: str = ""
    """Why it is not to be trusted; empty where nothing speaks against it."""

    def content(self) -> dict[str, Any]:
        """As JSON has it; a number that is not finite says so."""
        note = self.note or (None if math.isfinite(self.value) else "not finite")
        more = {"standard_error": self.standard_error, "ess": self.ess, "note": note}
        known = {name: value for name, value in more.items() if value is not None}
        return {"value": self.value, **known, "protocol": self.protocol.hash}


@dataclass(frozen=True)
class EvaluationContext:
    """What all measuring needs: a model, who moves its chains, and what it is compared with."""

    model: Snapshot
    pool: Pool
    split: Split
    reference: Dataset
    seed: int
    each: MapFunction = map
    """Who computes features."""

    def protocol(self, what: str, start: tuple[str, ...], n: int, by: str = "", **more: int | float | str) -> Protocol:
        """Of a number that is taken by the model's own chains; `by` names features."""
        recipe, data = self.model.job.recipe, self.reference
        sampler = recipe.sampler(recipe.sample_chain, self.model.nets, self.model.update)
        kernel = (sampler.steps, sampler.drift, sampler.noise) if isinstance(sampler, Langevin) else (0, 0.0, 0.0)
        reference = f"{self.split}, {data.size} items of {data.key}"
        return Protocol(what, start, *kernel, sampler.temperature, self.seed, n, reference, features=by, more=more)
