"""What an evaluation will measure: the groups of metrics that a model allows, and why it has no others."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.evaluation.comparison import FEWEST_ITEMS, default_features
from pipeline.evaluation.judges.classifier import why_no_classifier
from pipeline.evaluation.judges.features import Features, select_features
from pipeline.evaluation.metrics.log_likelihood import why_no_likelihood
from pipeline.evaluation.options import EvaluationOptions, Group
from pipeline.evaluation.protocol import Split
from pipeline.recipe import Recipe
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart
from pipeline.sampling.long_chains import has_start


class EvaluationPlan(NamedTuple):
    """What an evaluation will measure."""

    groups: list[Group]
    features: list[Features]
    unavailable: dict[Group, str]
    """Why the model has no metrics of a group; empty where it has some."""


def plan_evaluation(
    snapshot: Snapshot, groups: Sequence[Group] = (), options: EvaluationOptions = EvaluationOptions()
) -> EvaluationPlan:
    """The groups that `evaluate` with the same arguments measures.

    Raises:
        InputError: a group that is asked for is impossible, or the options do not fit the run.
    """
    features = _features(snapshot, options)
    missing = unavailable(snapshot, features)
    for group in groups:
        if missing[group]:
            raise InputError(missing[group], "metrics", group)
    starts = available_starts(snapshot, ())
    for start in options.starts:
        if start not in starts:
            raise InputError(f"the run has {', '.join(starts)}", "starts", start)
    if options.split and not dataset_of_split(snapshot, options.split).size:
        raise InputError("the run held out no such items", "split", options.split)
    wanted = [group for group in get_args(Group) if group in (groups or missing) and not missing[group]]
    return EvaluationPlan(wanted, features, missing)


def unavailable(snapshot: Snapshot, features: Sequence[Features]) -> dict[Group, str]:
    """Why the model has no metrics of each group; empty where it has some."""
    kind, density = snapshot.data.spec.kind, snapshot.data.density
    if not snapshot.recipe.samples_are_data:
        why = f"samples of {type(snapshot.recipe).__name__} are not data"
        return {group: "" if group == "items" else why for group in get_args(Group)}
    no_chain = "" if snapshot.sampler.gradient_evaluations else "no chain moves its samples"
    no_distance = "" if features or density is not None else why_no_distance(snapshot.data)
    has_items = type(snapshot.recipe).item_metrics is not Recipe.item_metrics
    return {
        "samples": "" if kind in ("image", "text") else no_distance,  # images are looked at even without a distance
        "grid": "" if snapshot.data.spec.shape == (2,) and kind == "vector" else "the data are not in the plane",
        "items": "" if has_items else f"{type(snapshot.recipe).__name__} has no metrics of single items",
        "long-run": no_chain or no_distance,
        "convergence": no_chain,
        "mixing": no_chain,
        "likelihood": why_no_likelihood(snapshot),
    }


def why_no_distance(data: Dataset) -> str:
    """Why samples have no distance to the data by default; empty where they have one."""
    kind, why = data.spec.kind, why_no_classifier(data)
    if data.density is not None or (kind == "vector" and data.size > 1) or not why:
        return ""
    if kind == "image":
        return f"{why}; without labels, a distance needs the features squeezenet or inception"
    return "a distance needs two items or more" if kind == "vector" else f"there are no features of {kind}"


def missing_metrics(data: Dataset, n: int) -> list[str]:
    """Why a final evaluation with n samples has not every distance, a line each."""
    if data.spec.kind == "text" and data.size < 2:
        return ["no perplexity of samples: a language model needs two texts or more"]
    if data.spec.kind not in ("image", "vector") or data.density is not None:
        return []
    if why := why_no_distance(data):
        return [f"no distance of samples to data: {why}"]
    if min(data.size, n) >= FEWEST_ITEMS:
        return []
    few = f"there are {data.size} items and {n} samples"
    return [f"no kernel distance or class score: they need {FEWEST_ITEMS} of both; {few}"]


def default_groups(snapshot: Snapshot, long_run_steps: int = 0) -> list[Group]:
    """The groups of a run's final evaluation."""
    missing = unavailable(snapshot, _features(snapshot, EvaluationOptions()))
    groups: tuple[Group, ...] = ("samples", "grid", "items", *(("long-run",) if long_run_steps else ()))
    return [group for group in groups if not missing[group]]


def dataset_of_split(snapshot: Snapshot, split: Split) -> Dataset:
    """The training items, or those held out for evaluation or for model selection; it may have none."""
    return {"data": snapshot.data, "test": snapshot.data.test, "validation": snapshot.data.validation}[split]


def _features(snapshot: Snapshot, options: EvaluationOptions) -> list[Features]:
    device = snapshot.device
    if not snapshot.recipe.samples_are_data:  # there is nothing to train a classifier for
        return []
    if not options.features:
        return default_features(snapshot.data, device)
    files = options.inception_weights, options.squeezenet
    return [select_features(kind, snapshot.data, *files, device) for kind in dict.fromkeys(options.features)]


def available_starts(snapshot: Snapshot, starts: Sequence[ChainStart]) -> list[ChainStart]:
    """The starts that are asked for; without any, all that the run has."""
    return list(dict.fromkeys(starts)) or [start for start in get_args(ChainStart) if has_start(snapshot, start)]
