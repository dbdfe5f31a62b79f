"""Opening a run: the arguments that name it, its job, and its newest snapshot."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from pipeline.data.dataset import Dataset, load_data
from pipeline.errors import InputError
from pipeline.process import configure_process
from pipeline.runs.job import Job, Settings, from_json
from pipeline.runs.snapshot import Snapshot, newest_snapshot
from pipeline.runs.storage import Storage
from pipeline.settings import Count, PositiveInt


@dataclass(frozen=True)
class RunArgs(Settings):
    """The run, and how this process opens it."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    seed: Count | None = None
    """Seed of everything random; None: the run's own."""
    threads: PositiveInt = 1
    """CPU threads of this process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of this process; auto: a GPU if there is one."""
    recipe_module: str = ""
    """Module that holds the run's recipe, where it is not one of this package."""


@dataclass(frozen=True)
class SnapshotArgs(RunArgs):
    """The run, and the folder for what the command makes of it."""

    out: str = ""
    """New folder of the results; empty: <run>/<command>-<update>."""


def load_run(run: str, recipe_module: str = "") -> Job[Any]:
    """The job of a run folder, wherever the folder is now.

    Args:
        run: the folder.
        recipe_module: module outside this package that may hold the run's recipe.

    Raises:
        InputError: there is no run, or it is of another version.
    """
    storage = Storage.at(run)
    if not storage.check_exists("job.json"):
        raise InputError("there is no run here: no job.json", "run", run)
    try:
        settings = storage.read_json("job.json")
    except ValueError as e:
        raise InputError(f"job.json is not JSON: {e}", "run", run) from e
    job = from_json(settings, [recipe_module] if recipe_module else ())
    return dataclasses.replace(job, out=storage.path if storage.local else run)


def pick_device(name: str) -> torch.device:
    """The device that a setting `device` means for this process. Raises InputError where it is missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no GPU that torch can use", "device", name)
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(auto if name == "auto" else name)


def open_snapshot(args: RunArgs, needs_energy: bool = True) -> Snapshot:
    """The newest snapshot of a run, on the device and with the threads that the arguments say.

    Args:
        args: the run.
        needs_energy: whether the model must have an energy of data.

    Raises:
        InputError: there is no run or no checkpoint, the data are others, or the model has no energy of data.
    """
    job = load_run(args.run, args.recipe_module)
    configure_process(args.threads)
    snapshot = newest_snapshot(job, pick_device(args.device))
    if needs_energy and job.recipe.energy(snapshot.nets) is None:
        raise InputError(f"{type(job.recipe).__name__} has no energy of data", "run", args.run)
    return snapshot


def seed_of(args: RunArgs, snapshot: Snapshot) -> int:
    """The seed that the arguments name, or the run's own."""
    return snapshot.job.seed if args.seed is None else args.seed


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
    return other


def random_items(data: Dataset, n: int, seed: int) -> Tensor:
    """(n, *d) items of the data, drawn without replacement; all of them if there are fewer."""
    index = np.random.default_rng(seed).permutation(data.size)[:n]
    return data.batch(index)["x"]
