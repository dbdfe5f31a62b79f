"""Job: one run, all its settings."""

import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.chains.bank import check_chains
from pipeline.data.dataset import Dataset, load_data
from pipeline.errors import InputError
from pipeline.recipe import Recipe

R = TypeVar("R", bound=Recipe)

FORMAT = 3
"""Of what a checkpoint holds; another is refused."""
LONGEST_PATIENCE = 500
"""Patience that is still short beside the history that divergence is judged by."""


class Range(NamedTuple):
    """A number of workers that may change while they work, from `least` to `most`; on a command line least:most."""

    least: int
    most: int


@dataclass(frozen=True)
class Job(Generic[R]):
    """What is trained, on what, how long, and on which machines.

    Only `updates`, `learners`, `actors`, `threads`, `device`, the resources, the logging and what is done about
    divergence may change when a run is resumed.
    """

    name: str
    """Name of the experiment, in the run's folder and result."""
    recipe: R
    data: str
    """digits, eight-gaussians, rings, checkerboard, spirals, a torchvision set, .parquet file or folder (image, text or
    features; maybe label), an .npz (images; maybe labels)."""
    updates: int
    """Updates of the weights, in all."""
    max_items: int = 0
    """Use only the first so many items of the data; 0: all."""
    test_share: float = 0.0
    """Share of the items that learning never sees; the final metrics about single items are taken on them."""
    validation_share: float = 0.0
    """Share of the items that learning never sees and no final metric is taken on: to choose between runs by."""
    held_out_class: int | None = None
    """Label that learning never sees: all its items are held back, beside --test-share of the others, and the final
    metrics say how well they are told apart; None: none."""
    labels_per_class: int = 0
    """Items a class, drawn by the seed, whose label is known to learning; 0: all."""
    text_as: Literal["sentences", "counts"] = "sentences"
    """What texts are read as: their words in order, up to 40, or how often each word is in them (bag of words)."""
    vocabulary: int = 10_000
    """Most frequent words of texts that are told apart; those that are there once are not."""
    lanes: int = 2
    """Shares into which data, chains and seeds are cut; part of what is computed, so a resumed run keeps it."""
    learners: int | Range = 1
    """Ray Train workers; 0: learn in this process. They divide the lanes. least:most, as many as there is room for."""
    actors: int = 2
    """Ray actors that move chains; 0: chains move where the learner is. At most as many as lanes."""
    lag: int = 0
    """Updates by which the weights that move the chains may be older than those that learn from them."""
    max_staleness: float = 0.0
    """Drift of the energy under --lag (sd of its change over its sd) above which an update waits for fresh chains;
    0: no bound."""
    seed: int = 0
    """Seed of everything random."""
    threads: int = 1
    """CPU threads of each process."""
    init_from: str = ""
    """Run, or checkpoint of one, whose networks of the same names this run begins with, say a flow's; empty: none."""
    out: str = ""
    """New folder of the run: a path or s3:// or gs:// URI that every machine sees; empty: runs/<name>-<time>."""
    on_divergence: Literal["stop", "rollback"] = "stop"
    """What a diverged run does: stop, or go back to its last healthy checkpoint with other random numbers."""
    patience: int = 10
    """Updates in a row far from the run's history (of its chains' gradient, contrast, extent or movement) that are
    divergence; 0: only a number that is not finite is."""
    rollbacks: int = 5
    """Rollbacks after which a diverged run stops all the same."""
    rollback_lr_factor: float = 1.0
    """Factor of all learning rates after each rollback."""
    checkpoint_every: int = 100
    """Updates between checkpoints and sample grids."""
    keep_checkpoints: int = 2
    """Checkpoints that stay: the newest ones."""
    log_every: int = 10
    """Updates between lines of metrics.jsonl and points in TensorBoard."""
    eval_samples: int = 1000
    """Samples that the final metrics are taken on, long chains as well; 0: no final metrics."""
    eval_long_run_steps: int = 0
    """Steps of chains from data for the final metrics, which tell whether learning converged; 0: none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Of the learner where --learners is 0; auto: a GPU where there is one. Ray gives the others theirs."""
    cpus_per_learner: float = 0.5
    """CPUs that Ray sets aside for a learner."""
    cpus_per_actor: float = 0.5
    """CPUs that Ray sets aside for an actor."""
    gpus_per_learner: float = 0.0
    """GPUs that Ray sets aside for a learner."""
    gpus_per_actor: float = 0.0
    """GPUs that Ray sets aside for an actor."""
    observers: int = 0
    """Ray actors of low priority: long chains at the newest checkpoint, which say whether the run converges. They
    change no number of the run. 0: none."""
    cpus_per_observer: float = 0.0
    """CPUs that Ray sets aside for an observer; 0: it takes the time that others leave."""
    gpus_per_observer: float = 0.0
    """GPUs that Ray sets aside for an observer."""
    wait_for_resources: float = 0.0
    """Seconds to wait for a cluster that has not yet the CPUs and GPUs asked for; 0: say so at once."""


def check_job(job: Job[Any]) -> None:
    """Raise BadInput for settings that no data and no machine could make right."""
    _check_numbers(job)
    _check_machines(job)
    if not job.name or "/" in job.name:
        raise InputError(f"--name {job.name!r}: it becomes part of a folder's name, so it is not empty and has no /")
    for stream, size in job.recipe.streams.items():
        if size < 1 or size % job.lanes:
            raise InputError(
                f"a batch of {size} items ({stream}) cannot be dealt to {job.lanes} lanes: choose a multiple"
            )
    if job.patience > LONGEST_PATIENCE:
        raise InputError(
            f"--patience {job.patience}: at most {LONGEST_PATIENCE}, since the history that counts is not much longer"
        )
    if job.on_divergence == "rollback" and job.keep_checkpoints < 2:
        raise InputError("--keep 1 with --on-divergence rollback: a healthy checkpoint to go back to needs 2 or more")
    if job.eval_samples == 1:
        raise InputError("--samples 1: a distance needs two or more; 0 for none")
    if job.labels_per_class and "labelled" not in job.recipe.streams:
        raise InputError(
            f"--labels {job.labels_per_class}: {type(job.recipe).__name__} with these settings learns from no labels"
        )
    check_chains(job.recipe.chains, job.lanes, job.lag)
    if job.max_staleness and not job.lag:
        raise InputError(f"--max-drift {job.max_staleness} without --lag: at lag 0 chains are never stale")


def _check_numbers(job: Job[Any]) -> None:
    """Raise BadInput for a number, of the job or its recipe, that is too small."""
    at_least = {
        "updates": 1,
        "vocabulary": 1,
        "lanes": 1,
        "threads": 1,
        "checkpoint_every": 1,
        "keep_checkpoints": 1,
        "log_every": 1,
    }
    for field in dataclasses.fields(job):
        value = getattr(job, field.name)
        least = at_least.get(field.name, 0)
        if isinstance(value, int | float) and not value >= least:
            raise InputError(f"--{field.name.replace('_', '-')} {value}: it must be {least} or more")
    for name, value in _numbers(job.recipe):
        if not value >= 0:
            raise InputError(f"--{name.replace('_', '-')} {value}: it must not be negative")
        if name == "steps" and not value:
            raise InputError("--steps 0: chains of no steps are their own start")


def _check_machines(job: Job[Any]) -> None:
    """Raise BadInput for learners and actors that the lanes, or Ray, would not take."""
    for name in ("learner", "actor"):
        if getattr(job, f"{name}s") and not getattr(job, f"cpus_per_{name}"):
            raise InputError(f"--cpus-per-{name} 0: Ray needs a share, however small")
    if job.actors > job.lanes:
        raise InputError(
            f"{job.actors} actors for {job.lanes} lanes: some would never work; use fewer, or more --lanes"
        )
    if isinstance(job.learners, Range):
        least, most = job.learners
        if not 1 <= least <= most <= job.lanes:
            raise InputError(f"--learners {least}:{most}: it must be 1 <= least <= most <= lanes ({job.lanes})")
    elif job.learners and job.lanes % job.learners:
        raise InputError(f"{job.learners} learners do not divide {job.lanes} lanes")


def load_dataset(job: Job[Any]) -> Dataset:
    """The job's data. Raises BadInput where they are not to be had."""
    return load_data(
        job.data,
        job.max_items,
        job.test_share,
        job.held_out_class,
        job.labels_per_class,
        job.seed,
        job.text_as,
        job.vocabulary,
        job.validation_share,
    )


def _numbers(value: Any, name: str = "") -> list[tuple[str, int | float]]:
    """Every number in a dataclass and the dataclasses it holds, by its field's name."""
    if dataclasses.is_dataclass(value):
        return [n for f in dataclasses.fields(value) for n in _numbers(getattr(value, f.name), f.name)]
    return [(name, value)] if isinstance(value, int | float) else []


def to_json(job: Job[Any]) -> dict[str, Any]:
    """Every setting; `recipe` says its own type."""
    kind = type(job.recipe)
    settings = TypeAdapter(Any).dump_python(job, mode="json")
    settings["recipe"] = {"type": f"{kind.__module__}.{kind.__qualname__}", **settings["recipe"]}
    return dict(settings)


def from_json(settings: dict[str, Any]) -> Job[Any]:
    """The job that `to_json` wrote. Raises BadInput where it is none."""
    try:
        settings = {k: v for k, v in settings.items() if k != "provenance"}
        recipe = dict(settings["recipe"])
        module, _, name = recipe.pop("type").rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        if not dataclasses.is_dataclass(kind):
            raise TypeError(f"{module}.{name} is no recipe")
        adapter: TypeAdapter[Job[Any]] = TypeAdapter(cast(Any, Job)[kind])
        job = adapter.validate_python({**settings, "recipe": recipe})
        if unknown := (settings.keys() - to_json(job).keys()) | (recipe.keys() - to_json(job)["recipe"].keys()):
            raise ValueError(f"it has no {', '.join(sorted(unknown))}")
        return job
    except (KeyError, TypeError, ValueError, ImportError, AttributeError, ValidationError) as e:
        raise InputError(f"job.json is not a job of this version: {str(e).splitlines()[0]}") from e


def identity(job: Job[Any], content: str) -> dict[str, Any]:
    """What a checkpoint must share with the run that goes on from it; `content`: the data's hash."""
    settings = to_json(job)
    recipe = {f"recipe {k}": v for k, v in settings["recipe"].items()}
    return {"format": FORMAT, **recipe, "lanes": job.lanes, "data": content}


def check_identity(job: Job[Any], content: str, found: dict[str, Any], where: str) -> None:
    """Raise BadInput where the checkpoint at `where`, whose identity is `found`, is of another run."""
    own = identity(job, content)
    for what in [*own, *(found.keys() - own.keys())]:
        if found.get(what) != own.get(what):
            raise InputError(f"{where} belongs to another run: its {what} is {found.get(what)}, not {own.get(what)}")
