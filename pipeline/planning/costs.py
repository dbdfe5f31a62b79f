"""Costs: the seconds and bytes of everything that an update consists of, as measured on a sample of the machines.

Seconds are CPU seconds of the process that does the work or, on a GPU, seconds until the GPU has done it. So they do
not depend on what else the sample was busy with, and the simulation adds the waiting.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from pipeline.errors import InputError
from pipeline.settings import Count, NonNegative, Positive, PositiveInt, Settings

FORMAT = 1
"""Of the file; another one is refused."""


@dataclass(frozen=True)
class Curve(Settings):
    """Seconds by a number of chains or items: straight lines between measured points, and beyond them.

    >>> Curve((10, 20), (1.0, 1.5))(30)
    2.0
    """

    sizes: tuple[PositiveInt, ...]
    """At which it was measured, rising."""
    seconds: tuple[NonNegative, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sizes or len(self.sizes) != len(self.seconds):
            raise InputError("must be as many as seconds, one or more", "sizes", self.sizes)
        if any(a >= b for a, b in pairwise(self.sizes)):
            raise InputError("must rise", "sizes", self.sizes)

    def __call__(self, n: float) -> float:
        """Seconds at n; a line through the origin where there is one point, and never less than at no size at all."""
        if len(self.sizes) == 1:
            return self.seconds[0] * n / self.sizes[0]
        points = list(zip(self.sizes, self.seconds, strict=True))
        (x0, y0), (x1, y1) = next((pair for pair in pairwise(points) if n <= pair[1][0]), (points[-2], points[-1]))
        return max(0.0, y0 + (y1 - y0) * (n - x0) / (x1 - x0))

    def scaled(self, factor: float) -> "Curve":
        """The curve times a factor."""
        return Curve(self.sizes, tuple(factor * one for one in self.seconds))


@dataclass(frozen=True)
class Line(Settings):
    """Seconds of a message: a fixed part, and one that grows with its bytes.

    >>> Line(0.001, 1e-9)(1_000_000)
    0.002
    """

    fixed: NonNegative
    """Seconds of an empty one."""
    per_byte: NonNegative = 0.0
    """Seconds a byte."""

    def __call__(self, size: float) -> float:
        """Seconds for so many bytes."""
        return self.fixed + self.per_byte * size


@dataclass(frozen=True)
class ChainCosts(Settings):
    """Of the chains of one name."""

    count: PositiveInt
    """Chains per update, over all lanes."""
    steps: Count
    """Gradient evaluations of one chain."""
    step: Curve
    """Seconds of a step of all chains of a task, by their number."""
    fixed: NonNegative
    """Seconds of a task beside its steps."""
    bytes_per_chain: Count
    """Bytes of a state and of the context that travels with it."""

    def seconds(self, n: float) -> float:
        """Seconds of a task of n chains."""
        return self.fixed + self.steps * self.step(n)


@dataclass(frozen=True)
class JobCosts(Settings):
    """Of a job, whatever carries it: what learner and actors compute."""

    chains: Mapping[str, ChainCosts]
    """By name; empty where learning runs none."""
    batch_size: PositiveInt
    """Items per update, over all lanes."""
    prepare: Curve
    """Seconds in which the learner makes a lane's tasks, by the lane's items."""
    read: Curve
    """Seconds in which the learner reads a lane's batch again, to learn from it, by the lane's items."""
    learn: Curve
    """Seconds of a lane's losses and gradients, by the lane's items."""
    compare: Curve
    """Seconds in which the learner evaluates a lane's chains again, where they are stale, by the lane's items."""
    step: NonNegative
    """Seconds of an update beside its lanes: optimizers, checks, metrics."""
    pack: NonNegative
    """Seconds to make one array of the weights."""
    load: NonNegative
    """Seconds in which an actor takes over such an array."""
    weight_bytes: Count
    """Bytes of the weights that travel with each version."""
    gradient_bytes: Count
    """Bytes of the vector that learners add up."""
    log: NonNegative = 0.0
    """Seconds of a line of the log, and of the progress."""
    log_every: PositiveInt = 1
    checkpoint: NonNegative = 0.0
    """Seconds of a checkpoint, the sample grid included."""
    checkpoint_every: PositiveInt = 100
    jitter: NonNegative = 0.0
    """Relative standard deviation of the seconds of equal tasks."""
    resend: NonNegative = 60.0
    """Seconds after which a pool sends a late task to another actor."""

    def task_seconds(self, lanes: int) -> dict[str, float]:
        """Seconds of a task of each chain, where there are so many lanes."""
        return {name: one.seconds(one.count / lanes) for name, one in self.chains.items()}

    def with_batch(self, size: int) -> "JobCosts":
        """The costs with so many items per update, and chains in proportion."""
        chains = {
            name: replace(one, count=max(1, round(one.count * size / self.batch_size)))
            for name, one in self.chains.items()
        }
        return replace(self, chains=chains, batch_size=size)

    def faster(self, factor: float) -> "JobCosts":
        """The costs on a device on which chains and learning take 1 / factor of the time."""
        chains = {k: replace(c, step=c.step.scaled(1 / factor), fixed=c.fixed / factor) for k, c in self.chains.items()}
        return replace(self, chains=chains, learn=self.learn.scaled(1 / factor), step=self.step / factor)


@dataclass(frozen=True)
class RayCosts(Settings):
    """Of messages: CPU seconds of the learner, of an actor, and of Ray's own processes on the machine.

    The defaults were measured on one core of an Intel Xeon with Ray 2.60; `python -m jobs.plan --calibrate` measures.
    """

    put: Line = field(default_factory=lambda: Line(1e-3, 1e-10))
    """Learner: what a submission takes beside its tasks: the weights, by their bytes, into the object store."""
    submit: Line = field(default_factory=lambda: Line(4.5e-4, 1.1e-9))
    """Learner: one task, by its bytes."""
    wait: NonNegative = 4e-4
    """Learner: what the results of an update take beside each of them."""
    collect: Line = field(default_factory=lambda: Line(7e-5, 1e-10))
    """Learner: one result, by its bytes."""
    receive: Line = field(default_factory=lambda: Line(1.7e-3, 1e-9))
    """Actor: a task and its result, by the bytes of both; after a task nothing of it is in the caches."""
    wake: NonNegative = 9e-4
    """Actor: what a task that it waits for takes beside one that is there already, as under a lag."""
    fetch: Line = field(default_factory=lambda: Line(3e-4, 1e-11))
    """Actor: new weights out of the object store of its machine, by their bytes."""
    system_wake: NonNegative = 5e-3
    """Ray's own processes and threads, for a submission and its results."""
    system: Line = field(default_factory=lambda: Line(4e-4, 1.7e-9))
    """Ray's own processes and threads, for each task, by its bytes."""
    reduce: Line = field(default_factory=lambda: Line(3e-4, 7e-10))
    """Learner: an all-reduce between two, by the bytes of the vector."""
    idle: NonNegative = 0.05
    """Cores of each machine that Ray's own processes keep busy while nothing happens."""
    idle_actor: NonNegative = 0.007
    """Cores that an actor keeps busy while nothing happens."""
    train: NonNegative = 0.05
    """Cores that Ray Train, and what the learners tell of their progress, keep busy on the first learner's machine."""


@dataclass(frozen=True)
class MemoryCosts(Settings):
    """Resident memory, in bytes."""

    learner: Count = 1_000_000_000
    """A learner before its first update."""
    actor: Count = 650_000_000
    """An actor before its first task."""
    item: Count = 0
    """A learner, for each item of a lane's batch: activations."""
    chain: Count = 0
    """An actor, for each chain of a task: activations."""
    device_item: Count = 0
    """As `item`, in the memory of a GPU."""
    device_chain: Count = 0
    """As `chain`, in the memory of a GPU."""
    bank: Count = 0
    """All learners together: banks of persistent states, with their copies in a checkpoint."""


@dataclass(frozen=True)
class Costs(Settings):
    """Everything that a plan is made of."""

    job: JobCosts
    ray: RayCosts = field(default_factory=RayCosts)
    memory: MemoryCosts = field(default_factory=MemoryCosts)
    name: str = ""
    """Of the job."""
    updates: PositiveInt = 1
    """Of the job, in all."""
    device: str = "cpu"
    """That they were measured on: cpu, or a GPU's name."""
    speed: Positive = 1.0
    """By which chains and learning were made faster than measured."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Machine, versions and date of the measurement."""

    def changed(
        self,
        chain_step: float = 0.0,
        learn_item: float = 0.0,
        speedup: float = 1.0,
        batch_size: int = 0,
        updates: int = 0,
    ) -> "Costs":
        """The costs with other numbers, where these are not 0.

        Args:
            chain_step: seconds of a step of one chain.
            learn_item: seconds in which a learner learns from one item.
            speedup: factor by which chains and learning are faster.
            batch_size: items per update; chains grow alike.
            updates: of the run.
        """
        job = self.job
        if chain_step:
            step = Curve((1,), (chain_step,))
            job = replace(job, chains={name: replace(one, step=step) for name, one in job.chains.items()})
        if learn_item:
            job = replace(job, learn=Curve((1,), (learn_item,)))
        if batch_size:
            job = job.with_batch(batch_size)
        return replace(self, job=job.faster(speedup), speed=self.speed * speedup, updates=updates or self.updates)


def to_json(costs: Costs) -> str:
    """The costs as a JSON text."""
    return json.dumps({"format": FORMAT, **dataclasses.asdict(costs)}, indent=1)


def from_json(text: str) -> Costs:
    """The costs of a JSON text. Raises InputError where it is none, or of another format."""
    try:
        tree = json.loads(text)
        if tree.pop("format") != FORMAT:
            raise InputError(f"of another format: this version reads format {FORMAT}")
        job: dict[str, Any] = tree.pop("job")
        for name in ("prepare", "read", "learn", "compare"):
            job[name] = _curve(job[name])
        job["chains"] = {k: ChainCosts(**{**one, "step": _curve(one["step"])}) for k, one in job["chains"].items()}
        ray: dict[str, Any] = {k: Line(**one) if isinstance(one, dict) else one for k, one in tree.pop("ray").items()}
        ray = {"wake": 0.0, "train": 0.0, **ray}  # files without them have the first as a part of `receive`
        memory = MemoryCosts(**tree.pop("memory"))
        return Costs(job=JobCosts(**job), ray=RayCosts(**ray), memory=memory, **tree)
    except InputError:
        raise
    except Exception as e:  # any tree but that of a file of costs
        raise InputError(f"no file of costs: {type(e).__name__}: {' '.join(str(e).split())}") from e


def _curve(tree: Any) -> Curve:
    return Curve(tuple(tree["sizes"]), tuple(tree["seconds"]))
