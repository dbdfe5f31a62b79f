"""Job: one run, all its settings."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import Field

from pipeline.batch import LABELLED
from pipeline.chains.bank import check_chains
from pipeline.data.dataset import Dataset, load_data
from pipeline.data.encoding import TextAs
from pipeline.data.files import SplitName
from pipeline.errors import InputError
from pipeline.nets.bfloat16 import WeightsType
from pipeline.precision import Precision
from pipeline.recipe import Recipe
from pipeline.schedule import Change, Setting, check_changes, settings_at, with_settings
from pipeline.settings import Count, Gpus, NonNegative, Positive, PositiveInt, Settings, Share

R = TypeVar("R", bound=Recipe)

MAX_PATIENCE = 500
"""A longer patience would not be short beside the history that divergence is judged by."""
CHECKED_ITEMS = 1000
"""Items that a recipe may look at before a run begins, at most."""


class Range(NamedTuple):
    """A number of workers that may change while they work, from `least` to `most`; on a command line least:most."""

    least: int
    most: int


@dataclass(frozen=True)
class DataSettings(Settings):
    """What the run learns from, and what it holds back."""

    source: str
    """digits, eight-gaussians, rings, checkerboard, spirals, square, a torchvision data set; a .parquet or .csv file or
    folder (images, texts or features; optionally labels); a folder of pictures (its folders are labels); an .npz
    (images; optionally labels) or .npy; the same at hf://datasets/..., s3:// or gs://; or an .arrow file that
    Dataset.from_arrays wrote."""
    max_items: Count = 0
    """Use only the first so many items; 0: all."""
    test_share: Share = 0.0
    """Share of the items held out from learning; metrics of single items are computed on them."""
    validation_share: Share = 0.0
    """Share of the items held out from learning and from all final metrics, for model selection."""
    held_out_class: int | str | None = None
    """Label held out from learning: all its items are held out, beside the test share of the others, and the final
    metrics say how well energies detect them. None: no label."""
    labels_per_class: Count = 0
    """Items per class, drawn with the seed, whose label is known to learning; 0: all."""
    text_as: TextAs = "sentences"
    """How texts are read: as word sequences (up to 40 words), or as word counts (bag of words)."""
    vocabulary: PositiveInt = 10_000
    """Size of the vocabulary: the most frequent words, without those that occur once."""
    split: SplitName = "train"
    """Which files of a folder to read, where their names say train, test or validation; all: all of them."""
    columns: tuple[str, ...] = ()
    """Columns of numbers that are the features; none: the column features, or all but the label."""
    label_column: str = "label"
    """Column of labels: whole numbers, words or booleans; -1 and missing ones are unlabelled. Empty: no labels."""
    image_column: str = "image"
    """Column of images: encoded ones, or their paths."""
    text_column: str = "text"
    """Column of texts."""
    background: str = "white"
    """Colour behind the transparent pixels of pictures, by name or as #rrggbb."""


@dataclass(frozen=True)
class ResourceSettings(Settings):
    """Processes, CPUs and GPUs."""

    learners: Count | Range = 1
    """Ray Train workers; they must divide the lanes. 0: learn in this process. least:most: as many as fit."""
    actors: Count = 2
    """Ray actors that move chains, at most one per lane; 0: chains move where the learner is."""
    threads: PositiveInt = 1
    """CPU threads per process."""
    deterministic: bool = False
    """Use algorithms that repeat bit for bit on a GPU of the same kind, too; some are slower. An operator without one
    says so in a warning. CPUs always repeat."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of a run without Ray; auto: a GPU if there is one. With Ray, a process has the GPUs that Ray gives it."""
    cpus_per_learner: NonNegative = 0.5
    """CPUs that Ray reserves per learner."""
    cpus_per_actor: NonNegative = 0.5
    """CPUs that Ray reserves per actor."""
    gpus_per_learner: Gpus = 0.0
    """GPUs that Ray reserves per learner."""
    gpus_per_actor: Gpus = 0.0
    """GPUs that Ray reserves per actor."""
    observers: Count = 0
    """Low-priority Ray actors that run long chains at the newest checkpoint and report whether the run converges. They
    do not change the run's numbers. 0: none."""
    cpus_per_observer: NonNegative = 0.0
    """CPUs that Ray reserves per observer; 0: observers use idle time only."""
    gpus_per_observer: Gpus = 0.0
    """GPUs that Ray reserves per observer."""
    wait_for_resources: NonNegative = 0.0
    """Seconds to wait until the cluster has the CPUs and GPUs asked for; 0: fail at once."""
    minutes: NonNegative = 0.0
    """Minutes after which a command stops, with a checkpoint and exit code 0; another one goes on. 0: no limit."""

    @property
    def on_ray(self) -> bool:
        """Whether Ray runs any of the processes."""
        return bool(self.learners or self.actors or self.observers)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learner", "actor"):
            if getattr(self, f"{name}s") and not getattr(self, f"cpus_per_{name}"):
                raise InputError("Ray needs a share, however small", f"cpus_per_{name}", 0)


@dataclass(frozen=True)
class DivergenceSettings(Settings):
    """When a run counts as diverged, and what happens then."""

    on_divergence: Literal["stop", "rollback"] = "stop"
    """What a diverged run does: stop, or return to its last healthy checkpoint with other random numbers."""
    patience: Annotated[int, Field(ge=0, le=MAX_PATIENCE)] = 10
    """Consecutive updates far outside the run's history (of the chains' gradient, energy gap, rms or displacement) that
    count as divergence; 0: only a non-finite number does."""
    rollbacks: Count = 5
    """Maximum number of rollbacks; after that a diverged run stops."""
    rollback_lr_factor: Positive = 1.0
    """Factor of all learning rates after each rollback."""


@dataclass(frozen=True)
class LoggingSettings(Settings):
    """Checkpoints and logs."""

    checkpoint_every: PositiveInt = 100
    """Updates between checkpoints and sample grids."""
    keep_checkpoints: PositiveInt = 2
    """Number of recent checkpoints to keep."""
    log_every: PositiveInt = 10
    """Updates between lines of metrics.jsonl and points in TensorBoard."""


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """The final evaluation of a run."""

    eval_samples: Count = 1000
    """Samples of the final metrics; 0: no final metrics."""
    eval_long_run_steps: Count = 0
    """Steps of long chains from data in the final metrics, which show whether learning converged; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eval_samples == 1:
            raise InputError("a distance needs two samples or more; 0 for none", "eval_samples", 1)


@dataclass(frozen=True)
class Job(Settings, Generic[R]):
    """What is trained, on what data, for how long, and on which machines.

    A resumed run may change `updates`, and the groups `resources`, `divergence`, `logging` and `evaluation`.
    """

    recipe: R
    data: DataSettings
    updates: PositiveInt
    """Updates of the weights, in all."""
    name: str = ""
    """Name of the run, in its folder and result; presets are named <experiment>-<preset>."""
    lanes: PositiveInt = 2
    """Shares into which data, chains and seeds are split; part of what is computed, so a resumed run keeps it."""
    lag: Count = 0
    """Updates by which the weights that move the chains may be older than those that learn from them."""
    max_staleness: NonNegative = 0.0
    """Staleness under a lag (sd of the energy's change over the sd of the energy) above which an update waits for fresh
    chains; 0: no bound."""
    seed: Count = 0
    """Seed of everything random."""
    precision: Precision = "highest"
    """Precision of matrix products and convolutions in learning: float32; TF32 (10 bits) on a GPU; or networks of
    chains in bfloat16 (7 bits) besides. Chains that accept or reject, and all of evaluation, have the highest."""
    weights_dtype: WeightsType = "float32"
    """Type of the weights that learners send to chains; bfloat16 is half the bytes on the network, and chains then move
    under weights of 8 bits, with Ray and without. Chains that accept or reject, frozen networks, and all of evaluation
    have float32."""
    init_from: str = ""
    """Run, or checkpoint of a run, whose networks of the same names this run starts with; empty: none."""
    changes: tuple[Change, ...] = ()
    """Settings of the recipe that change while the run learns, each from an update on: 1000:noise=.05,lr=1e-4. What is
    computed with a finished run's model uses its last settings."""
    out: str = ""
    """New folder of the run: a path or an s3:// or gs:// URI that every machine sees; empty: runs/<name>-<time>."""
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    divergence: DivergenceSettings = field(default_factory=DivergenceSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def settings_at(self, update: int) -> dict[str, Setting]:
        """The settings that differ from the recipe's at an update, by name."""
        return settings_at(self.changes, update)

    def recipe_at(self, update: int) -> R:
        """The recipe with the settings that hold at an update."""
        settings = self.settings_at(update)
        return with_settings(self.recipe, settings) if settings else self.recipe


GROUPS = ("data", "resources", "divergence", "logging", "evaluation")
"""Fields of a job that are groups of settings."""


def override(job: Job[Any], **settings: Any) -> Job[Any]:
    """Change settings of a job, its recipe included, by their flat names, as flags have them.

    override(job, updates=10, actors=0) returns a new job.

    Raises:
        TypeError: there is no such setting.
        InputError: a value is out of bounds.
    """
    for name in GROUPS:
        group = settings.get(name, getattr(job, name))
        if own := {f.name: settings.pop(f.name) for f in dataclasses.fields(group) if f.name in settings}:
            settings[name] = dataclasses.replace(group, **own)
    return dataclasses.replace(job, **settings)


def check_job(job: Job[Any]) -> None:
    """Raise InputError for settings that do not fit together, whatever the data and the machine."""
    resources = job.resources
    if "/" in job.name:
        raise InputError("becomes part of a folder's name: it must not contain /", "name", job.name)
    if resources.actors > job.lanes:
        raise InputError(f"at most one per lane ({job.lanes}); use fewer, or more lanes", "actors", resources.actors)
    if isinstance(resources.learners, Range):
        least, most = resources.learners
        if not 1 <= least <= most <= job.lanes:
            raise InputError(f"must be 1 <= least <= most <= lanes ({job.lanes})", "learners", f"{least}:{most}")
    elif resources.learners and job.lanes % resources.learners:
        raise InputError(f"must divide the lanes ({job.lanes})", "learners", resources.learners)
    for stream, size in job.recipe.streams.items():
        if size < 1 or size % job.lanes:
            raise InputError(
                f"a batch of {size} items ({stream}) cannot be split into {job.lanes} lanes: use a multiple"
            )
    if job.divergence.on_divergence == "rollback" and job.logging.keep_checkpoints < 2:
        raise InputError("on_divergence=rollback needs 2 or more to return to", "keep_checkpoints", 1)
    if job.data.labels_per_class and LABELLED not in job.recipe.streams:
        why = f"{type(job.recipe).__name__} with these settings learns from no labels"
        raise InputError(why, "labels_per_class", job.data.labels_per_class)
    check_chains(job.recipe.chains, job.lanes, job.lag)
    check_changes(job.recipe, job.changes)
    if job.max_staleness and not job.lag:
        raise InputError("needs a lag: at lag 0 chains are never stale", "max_staleness", job.max_staleness)


def load_dataset(job: Job[Any]) -> Dataset:
    """The job's data. Raises InputError where they cannot be read, or the recipe cannot learn from their items."""
    data = load_data(**vars(job.data), seed=job.seed)
    if type(job.recipe).check_items is not Recipe.check_items:  # else nothing need be read
        job.recipe.check_items(data.batch(np.arange(min(CHECKED_ITEMS, data.size))))
    return data
