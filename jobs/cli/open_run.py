"""Opening a run: the arguments that name it, and its snapshot."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import tyro
from torch import Tensor

from pipeline.data.dataset import Dataset, load_data
from pipeline.errors import InputError
from pipeline.process import configure_process, pick_device
from pipeline.progress import doing
from pipeline.runs import snapshot as snapshots
from pipeline.runs.job_json import load_run
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.settings import Count, PositiveInt, Settings


@dataclass(frozen=True)
class RunArgs(Settings):
    """The run, and how this process opens it."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    checkpoint: Count | None = None
    """Update of the checkpoint to open; None: the newest."""
    seed: Count | None = None
    """Seed of everything random; None: the run's own."""
    threads: PositiveInt = 1
    """CPU threads of this process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of this process; auto: a GPU if there is one, and no actors to which Ray gives it."""
    recipe_module: str = ""
    """Module that holds the run's recipe, where it is not one of this package."""

    @property
    def modules(self) -> list[str]:
        """The modules that the user allows to be imported."""
        return [self.recipe_module] if self.recipe_module else []

    @property
    def on_ray(self) -> bool:
        """Whether the command has actors."""
        return bool(getattr(self, "actors", 0))


@dataclass(frozen=True)
class SnapshotArgs(RunArgs):
    """The run, and the folder for what the command makes of it."""

    out: str = ""
    """New folder of the results; empty: <run>/<command>-<update>."""


def open_snapshot(args: RunArgs, needs_energy: bool = True) -> Snapshot:
    """The snapshot of a run, on the device and with the threads that the arguments say.

    Args:
        args: the run.
        needs_energy: whether the model must have an energy of data.

    Raises:
        InputError: there is no run or no such checkpoint, the data are others, or the model has no energy of data.
    """
    job = load_run(args.run, args.modules)
    configure_process(args.threads)
    with doing(f"reading {Storage.at(args.run)}"):
        snapshot = snapshots.open_snapshot(job, pick_device(args.device, args.on_ray), args.checkpoint)
    if needs_energy and job.recipe.energy(snapshot.nets) is None:
        raise InputError(f"{type(job.recipe).__name__} has no energy of data", "run", args.run)
    return snapshot


def seed_of(args: RunArgs, snapshot: Snapshot) -> int:
    """The seed that the arguments name, or the run's own."""
    return snapshot.job.seed if args.seed is None else args.seed


def own_items(snapshot: Snapshot) -> tuple[Dataset, str]:
    """The items that the run held out, or those it learned from where it held out none; and which of them."""
    held_out = len(snapshot.data.test_rows) > 0
    return (snapshot.data.test, "held out") if held_out else (snapshot.data, "training")


def load_other_data(snapshot: Snapshot, data: str) -> Dataset:
    """Data that the run did not learn from.

    Raises:
        InputError: their items have another shape, or depend on statistics of the training data.
    """
    other = load_data(data)
    if other.spec.shape != snapshot.data.spec.shape:
        raise InputError(f"its items have the shape {other.spec.shape}, not {snapshot.data.spec.shape}", "data", data)
    if other.statistics:
        why = "features and texts are encoded with statistics of the training data: hold some out in the run"
        raise InputError(why, "data", data)
    return other.with_classes(snapshot.data.classes)


def random_items(data: Dataset, n: int, seed: int) -> Tensor:
    """(n, *d) items of the data, drawn without replacement; all of them if there are fewer."""
    index = np.random.default_rng(seed).permutation(data.size)[:n]
    return data.batch(index)["x"]
