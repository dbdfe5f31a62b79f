"""The library: train, sample and evaluate from Python, in memory or in a run folder, with Ray or without."""

import dataclasses
import sys
import tempfile
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.chains.local_pool import LocalPool
from pipeline.data.arrays import Array
from pipeline.data.dataset import Dataset, load_data
from pipeline.data.labels import Label
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.evaluation.options import EvaluationOptions, Group
from pipeline.nets.weights import Nets
from pipeline.process import configure_process, pick_device
from pipeline.recipe import Recipe, init_networks
from pipeline.run import run
from pipeline.runs.job import DataSettings, Job, check_job, load_dataset, override
from pipeline.runs.job_json import load_run, to_json
from pipeline.runs.journal import provenance
from pipeline.runs.snapshot import Snapshot, newest_snapshot, open_snapshot
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import (
    ChainStart,
    class_tasks,
    decode_states,
    draw_tasks,
    final_states,
    run_tasks,
    symbol_of,
)
from pipeline.schedule import check_changes
from pipeline.training.pretrained import check_pretrained


class TrainedModel:
    """A run's snapshot, with methods that sample, evaluate and save.

    >>> from pipeline import ShortRun
    >>> model = fit(ShortRun(width=8), "rings", 2, progress=False)
    >>> model.energy(model.sample(5)).shape
    torch.Size([5])
    """

    def __init__(self, snapshot: Snapshot, folder: tempfile.TemporaryDirectory[str] | None = None):
        """Wrap a snapshot.

        Args:
            snapshot: of a run.
            folder: the run's folder where it is temporary; it lives as long as the model.
        """
        self.snapshot, self._folder = snapshot, folder
        self._pool = LocalPool(snapshot.recipe, snapshot.nets)

    @property
    def nets(self) -> Nets:
        """The networks by name, in eval mode and without gradients."""
        return self.snapshot.nets

    @property
    def energy(self) -> Energy:
        """The energy under which the model's chains move."""
        return self.snapshot.energy

    @property
    def data(self) -> Dataset:
        """The training data."""
        return self.snapshot.data

    def sample(self, n: int, *, seed: int = 0, label: Label | None = None, start: ChainStart = "noise") -> Tensor:
        """n samples (n, *shape), as the networks see data (images in [-1, 1]).

        Args:
            n: number of samples.
            seed: of starts and steps.
            label: class of the samples as the data name it, where the recipe can sample one; None: any.
            start: where chains start.

        Raises:
            InputError: n is not positive, or the model has no such samples.
        """
        if n < 1:
            raise InputError("must be 1 or more", "n", n)
        snapshot, recipe = self.snapshot, self.snapshot.recipe
        if label is not None:
            chain = recipe.class_chain or ""
            tasks = class_tasks(snapshot, np.full(n, symbol_of(snapshot, label)), seed)
        else:
            chain = recipe.sample_chain
            tasks = draw_tasks(snapshot, n, seed, start)
        return decode_states(snapshot, final_states(run_tasks(self._pool, snapshot.nets, tasks), chain), seed)

    def evaluate(
        self, groups: Sequence[Group] = (), options: EvaluationOptions = EvaluationOptions(), *, seed: int | None = None
    ) -> Evaluation:
        """Measure the model; see `pipeline.evaluation.evaluate.evaluate`."""
        return evaluate(self.snapshot, self._pool, groups, options, seed=seed)

    def save(self, folder: str) -> None:
        """Copy the run into a new folder, which `load_model` and every command accepts.

        Raises:
            InputError: the folder exists.
        """
        target = Storage.at(folder)
        if target.check_exists():
            raise InputError("exists already", "folder", folder)
        target.copy_from(Storage.at(self.snapshot.job.out))


def fit(
    recipe: Recipe,
    data: Dataset | Array | str,
    updates: int,
    *,
    out: str = "",
    learners: int = 0,
    actors: int = 0,
    progress: bool = True,
    **settings: Any,
) -> TrainedModel:
    """Train a model.

    Args:
        recipe: what is trained; a recipe of this package or your own.
        data: a data set, an array (see `Dataset.from_arrays`), or a name or path (see `load_data`).
        updates: of the weights.
        out: new folder of the run; empty: a temporary one, which lives as long as the model.
        learners: Ray Train workers; 0: learn in this process.
        actors: Ray actors that move chains; 0: chains move in this process. With neither, Ray is not used.
        progress: whether a progress bar is shown.
        settings: any other setting of a job by its flag's name: lanes=1, seed=3, checkpoint_every=50.

    Raises:
        InputError: a setting is out of bounds, or does not fit the data.
        Diverged: a number is not finite or far outside its history.

    >>> from pipeline import Langevin, ShortRun
    >>> recipe = ShortRun(langevin=Langevin(10, 1.0, 0.03), batch_size=20, width=8, start_from="gaussian")
    >>> model = fit(recipe, torch.randn(200, 2), 3, progress=False)
    >>> model.sample(5).shape
    torch.Size([5, 2])
    """
    dataset = _as_dataset(data)
    if progress:
        print(*dataset.describe(), sep="\n", file=sys.stderr)
    job = _make_job(recipe, dataset, updates, {"learners": learners, "actors": actors, **settings})
    device = pick_device(job.resources.device, job.resources.on_ray)
    folder = None if out else tempfile.TemporaryDirectory(prefix="ebm-fit-")
    storage = Storage.at(out or f"{folder.name}/run")  # type: ignore[union-attr]
    if storage.check_exists():
        raise InputError("exists: a run is never overwritten", "out", out)
    job = dataclasses.replace(job, out=storage.uri)
    storage.write_json("job.json", {**to_json(job), "provenance": provenance()})
    _run(job, dataset, device, progress)
    return TrainedModel(newest_snapshot(job, device), folder)


def _make_job(recipe: Recipe, dataset: Dataset, updates: int, settings: dict[str, Any]) -> Job[Any]:
    job: Job[Any] = Job(
        name=settings.pop("name", type(recipe).__name__),
        recipe=recipe,
        data=DataSettings(dataset.source, **dataset.selection),
        updates=updates,
    )
    job = override(job, **{"eval_samples": 0, **settings})
    check_job(job)
    if load_dataset(job).fingerprint != dataset.fingerprint:
        raise InputError("the data set's known labels were drawn with another seed", "seed", job.seed)
    check_changes(job.recipe, job.changes, dataset.spec)
    return check_pretrained(job, dataset.spec)


def load_model(run: str, modules: Collection[str] = (), checkpoint: int | None = None) -> TrainedModel:
    """The model of a run folder.

    Args:
        run: the folder.
        modules: modules outside this package that may hold the run's recipe.
        checkpoint: update of the checkpoint; None: the newest.

    Raises:
        InputError: there is no run, or no such checkpoint.

    >>> from pipeline import ShortRun
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = fit(ShortRun(width=8), "rings", 2, out=f"{folder}/run", progress=False)
    ...     torch.equal(load_model(f"{folder}/run").sample(5), model.sample(5))
    True
    """
    job = load_run(run, modules)
    return TrainedModel(open_snapshot(job, pick_device(job.resources.device), checkpoint))


def _as_dataset(data: Dataset | Array | str) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return load_data(data) if isinstance(data, str) else Dataset.from_arrays(data)


def _run(job: Job[Any], data: Dataset, device: torch.device, progress: bool) -> None:
    from tqdm.auto import tqdm  # slow to import

    bar = partial(tqdm, mininterval=1.0, disable=not progress)
    if not job.resources.on_ray:
        configure_process(job.resources.threads, job.resources.deterministic)
        run(job, device, LocalPool(job.recipe, init_networks(job.recipe, data.spec, job.seed, device)), bar)
        return
    from pipeline.distributed import cluster  # only a run with Ray imports it
    from pipeline.distributed.train import run_on_ray

    with cluster.connected():
        run_on_ray(job, data.spec, device)
