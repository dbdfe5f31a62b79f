"""The arguments of `jobs.search`, which its folder keeps."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

import tyro
from pydantic import TypeAdapter

from pipeline.data.files import SplitName
from pipeline.errors import InputError
from pipeline.runs.storage import Storage
from pipeline.search import SEARCH_FILE
from pipeline.settings import Count, Gpus, NonNegative, Positive, PositiveInt, Settings, Share


@dataclass(frozen=True)
class Search(Settings):
    """What is searched, and how."""

    experiment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")]
    """The experiment whose settings are searched, with - or _; `python -m jobs` lists them."""
    preset: str = ""
    """Preset that trials start from; empty: the experiment's first."""
    trials: PositiveInt = 32
    """Number of trials; with pbt, of the population, which runs to the end."""
    objective: str = ""
    """Quality that trials are compared by: frechet, frechet_long, kl, grid_kl, mse, nll_nats, accuracy, gridness,
    quadrature_share or auprc; empty: what suits experiment and data (auprc with --held-out-class)."""
    budget: Count = 0
    """Gradient evaluations of a complete trial; 0: as many as the preset's run takes."""
    suggestions: Literal["tpe", "nsga2", "random"] | None = None
    """Where settings come from: Optuna's tree-structured Parzen estimator, which learns from trials; its evolution of a
    front (NSGA-II), with --front; or chance. None: tpe, or with pbt chance."""
    scheduler: Literal["asha", "pbt", "none"] | None = None
    """asha: after its first report, its third, its ninth, ... only the best third of the trials so far continues. pbt:
    after each report the worst quarter of the trials takes over the weights of the best, and goes on with other
    settings. none: all continue. None: asha, or none with --front."""
    front: bool = False
    """Search for the front of quality and gradient evaluations of a sample, not for quality alone."""
    reports: PositiveInt = 9
    """Reports of a complete trial, after equal shares of the budget; with pbt, its generations."""
    samples: PositiveInt = 1000
    """Samples, or items at most, per report."""
    confirm: Count = 3
    """How many of the best trials, or of the front, run again with new seeds, beside the preset; 0: none."""
    seeds: PositiveInt = 3
    """New seeds for each of those."""
    data: str = ""
    """Data as for every experiment; empty: the preset's."""
    max_items: Count = 0
    """Use only the first so many items of the data; 0: as the preset."""
    validation_share: Share = 0.2
    """Share of the items that trials are compared on."""
    test_share: Share = 0.2
    """Share of the items that the best trials are compared on at the end, and nothing else uses."""
    held_out_class: int | str | None = None
    """Label held out from learning, for auprc; None: as the preset."""
    labels_per_class: Count = 0
    """Items per class whose label is known to learning; 0: as the preset."""
    split: SplitName = "train"
    """Which files of a folder to read, where their names say a split."""
    columns: tuple[str, ...] = ()
    """Columns that are the features; none: as the preset."""
    label_column: str = "label"
    """Column of labels."""
    image_column: str = "image"
    """Column of images."""
    text_column: str = "text"
    """Column of texts."""
    background: str = "white"
    """Colour behind the transparent pixels of pictures."""
    init_from: str = ""
    """Run, or checkpoint, whose networks all trials start with, for example a flow's; empty: none."""
    trial_actors: Count = 0
    """Ray actors that move each trial's chains; 0: they move in the trial's process."""
    cpus_per_trial: Positive = 1.0
    """CPUs that Ray reserves per trial, beside its actors."""
    gpus_per_trial: Gpus = 0.0
    """GPUs that Ray reserves per trial, beside its actors."""
    cpus_per_actor: NonNegative = 0.5
    """CPUs that Ray reserves per actor of a trial."""
    gpus_per_actor: Gpus = 0.0
    """GPUs that Ray reserves per actor of a trial."""
    threads: PositiveInt = 1
    """CPU threads per process."""
    minutes: NonNegative = 0.0
    """Minutes after which the search stops, with a checkpoint of every trial and exit code 0; 0: no limit."""
    seed: Count = 0
    """Seed of the suggestions and of the trials' runs; the new seeds follow it."""
    out: str = ""
    """New folder of the search: a path, s3:// or gs:// that every machine sees; empty: runs/search-<preset>-<time>."""

    resume_if_exists: bool = False
    """Continue the search in --out where there is one with the same settings; say so where it has finished."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise InputError("a distance needs two samples or more", "samples", self.samples)
        if self.front and self.scheduler in ("asha", "pbt"):
            raise InputError("goes by quality alone: --front needs none", "scheduler", self.scheduler)
        if self.scheduler == "pbt" and self.suggestions in ("tpe", "nsga2"):
            raise InputError("with --scheduler pbt the first settings are random", "suggestions", self.suggestions)
        if self.suggestions == "nsga2" and not self.front:
            raise InputError("needs --front", "suggestions", self.suggestions)


def read_args(storage: Storage) -> Search:
    """The arguments of the search in a folder. Raises InputError where there is none of this version."""
    try:
        args = storage.read_json(SEARCH_FILE)["args"]
        if unknown := args.keys() - {f.name for f in fields(Search)}:
            raise ValueError(f"it has {min(unknown)}")
        return TypeAdapter(Search).validate_python(args)  # a list becomes a tuple
    except (TypeError, ValueError, KeyError) as e:
        why = f"{SEARCH_FILE} is not a search of this version: {str(e).splitlines()[0]}"
        raise InputError(why, "run", storage.path) from e
