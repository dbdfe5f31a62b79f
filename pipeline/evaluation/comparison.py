"""Samples of a model compared with data: over features, or by KL on a grid where the density is known."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.energies.toy_densities import ToyDensity
from pipeline.evaluation.judges.classifier import why_no_classifier
from pipeline.evaluation.judges.features import FeatureBatch, Features, classifier_features, coordinate_features
from pipeline.evaluation.metrics.frechet import PARTS, MeanEstimate, class_score, frechet_distance, kernel_distance
from pipeline.evaluation.metrics.grid import grid_kl, grid_points, kde_log_density
from pipeline.evaluation.metrics.perplexity import sample_perplexities
from pipeline.evaluation.protocol import EvaluationSetup, MapFunction, Measurement, Protocol
from pipeline.rng import fold, generator
from pipeline.sampling.draw import decode_states, draw_tasks, final_states, run_tasks, start_states

Number: TypeAlias = float | MeanEstimate

FEWEST_ITEMS = 2 * PARTS
"""Items that a kernel distance or a class score needs on each side: two in each of its parts."""
REFERENCE_ITEMS = 10_000
"""Items that samples are compared with, at most, unless asked otherwise."""
FLOOR_DRAWS = 4
"""Draws of data over which a floor over features is averaged."""


class Comparison(NamedTuple):
    """A way to compare samples with reference items, or with a known density."""

    name: str
    """Name of the distance: `frechet`, `frechet_squeezenet`, `fid`, or `kl` (KL(truth, samples) in nats)."""
    features: str
    """Name of the features; empty for `kl`."""
    distance: Callable[[Tensor], float]
    """Samples (n, *d) -> their distance; not a number if a sample is not finite."""
    all: Callable[[Tensor], dict[str, Number]]
    """Samples -> the distance and every other number over the same features, by name."""
    floor: Callable[[int], dict[str, Number]]
    """What n samples of the data's own distribution would have; names end in `_floor`."""

    def distance_floor(self, n: int) -> float:
        """The distance that n samples of the data's own distribution would have."""
        return _value(self.floor(n).get(f"{self.name}_floor", math.nan))


def density_comparison(truth: ToyDensity) -> Comparison:
    """KL(truth, samples) on a grid, with the samples smoothed by a Gaussian kernel of bandwidth .1."""
    points = grid_points(truth.half_width)

    def distance(x: Tensor) -> float:
        return grid_kl(truth, kde_log_density(x, points), points) if torch.isfinite(x).all() else math.nan

    def floor(n: int) -> dict[str, Number]:
        return {"kl_floor": distance(truth.sample(n, generator(0)))}  # one draw: the grid takes seconds

    return Comparison("kl", "", distance, lambda x: {"kl": distance(x)}, floor)


def feature_comparison(
    features: Features, reference: Dataset, most: int = REFERENCE_ITEMS, map_function: MapFunction = map
) -> Comparison:
    """Distances over features to at most `most` items of the reference.

    The kernel distance and the class score are left out where there are fewer than FEWEST_ITEMS samples or items. The
    floor compares n items with as many as the reference has, both drawn from the reference with replacement (the
    bootstrap): so it has the share of either number in the distance of n samples.
    """
    index = np.arange(reference.size)
    if reference.size > most:
        index = np.linspace(0, reference.size - 1, most).astype(np.int64)
    pieces = np.array_split(index, len(index) // 500 + 1)
    real = features(torch.cat([reference.batch(piece)["x"] for piece in pieces]), map_function)

    def distance(x: Tensor) -> float:
        if not torch.isfinite(x).all():
            return math.nan
        return frechet_distance(features(x, map_function).features, real.features)

    def numbers(some: FeatureBatch, other: Tensor) -> dict[str, Number]:
        if min(len(some.features), len(other)) < 2:  # one item has no covariance
            return {}
        result: dict[str, Number] = {features.frechet: frechet_distance(some.features, other)}
        if min(len(some.features), len(other)) < FEWEST_ITEMS:
            return result
        result[features.kernel] = kernel_distance(some.features, other)
        return result if some.logits is None else {**result, features.score: class_score(some.logits)}

    def all_(x: Tensor) -> dict[str, Number]:
        if torch.isfinite(x).all():
            return numbers(features(x, map_function), real.features)
        return {features.frechet: math.nan}

    def floor(n: int) -> dict[str, Number]:
        rng, items = np.random.default_rng(0), len(real.features)
        draws = [[rng.integers(items, size=size) for size in (n, items)] for _ in range(FLOOR_DRAWS)]
        return _floor([numbers(_rows(real, some), real.features[others]) for some, others in draws])

    return Comparison(features.frechet, features.name, distance, all_, floor)


def _rows(batch: FeatureBatch, rows: np.ndarray) -> FeatureBatch:
    return FeatureBatch(batch.features[rows], None if batch.logits is None else batch.logits[rows])


def _value(number: Number) -> float:
    return number if isinstance(number, float) else number.value


def _floor(draws: Sequence[Mapping[str, Number]]) -> dict[str, Number]:
    """The mean of each number over the draws, and its standard error."""
    floors = dict[str, Number]()
    for name in draws[0]:
        values = np.array([_value(one[name]) for one in draws])
        floors[f"{name}_floor"] = MeanEstimate(float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5))
    return floors


def default_features(data: Dataset, device: torch.device | str) -> list[Features]:
    """The data's own classifier for labelled images, coordinates for two vectors or more, otherwise none."""
    if data.spec.kind == "image":
        return [] if why_no_classifier(data) else [classifier_features(data, device)]
    return [coordinate_features()] if data.spec.kind == "vector" and data.density is None and data.size > 1 else []


def default_comparison(data: Dataset, device: torch.device, reference: Dataset | None = None) -> Comparison | None:
    """The first of the comparisons that an evaluation makes by default; None where there is none.

    Args:
        data: the training data; a classifier is trained on them.
        device: of the classifier.
        reference: what samples are compared with, say `data.test`; None: the data.
    """
    if data.density is not None:
        return density_comparison(data.density)
    features = default_features(data, device)
    return feature_comparison(features[0], reference or data) if features else None


def comparisons(setup: EvaluationSetup, features: Sequence[Features], most: int) -> list[Comparison]:
    """By the density where it is known, and by each of the features."""
    density = setup.snapshot.data.density
    by_density = [density_comparison(density)] if density is not None else []
    return [*by_density, *(feature_comparison(one, setup.reference, most, setup.map_function) for one in features)]


class ComparedSamples(NamedTuple):
    """Measurements of fresh samples, and the data that they are measured on."""

    measurements: list[Measurement]
    samples: Tensor
    """(n, *d) decoded ends of fresh chains."""
    by_origin: dict[str, Tensor]
    """Data decoded from the chains' `start`s and from the run's `bank`, where they differ from the samples."""


def compare_samples(setup: EvaluationSetup, ways: Sequence[Comparison], n: int) -> ComparedSamples:
    """n fresh samples against the reference, by each comparison; sentences by perplexity.

    Names: `<distance>` and the other numbers over the same features; `<distance>_start` of what the chains start from;
    `<distance>_bank` of (at most n) states of the run's bank; `<name>_floor` of data.
    """
    snapshot, tasks = setup.snapshot, draw_tasks(setup.snapshot, n, fold(setup.seed, "samples"))
    ends = final_states(run_tasks(setup.pool, snapshot.nets, tasks, "drawing"), snapshot.recipe.sample_chain)
    x, starts = decode_states(snapshot, ends, setup.seed), start_states(tasks)
    origins = {} if torch.equal(starts, ends) else {"start": decode_states(snapshot, starts, setup.seed)}
    if snapshot.bank is not None and len(snapshot.bank) > 1:
        chosen = np.random.default_rng(fold(setup.seed, "bank samples")).permutation(len(snapshot.bank))[:n]
        origins["bank"] = decode_states(snapshot, snapshot.bank[chosen], setup.seed)
    result = list[Measurement]()
    for way in ways:
        if not (numbers := way.all(x)):
            continue  # there are too few items
        result += measurements(numbers, setup.protocol("samples", ("noise",), n, way.features))
        result += measurements(way.floor(n), setup.protocol("samples floor", (), n, way.features))
        for origin, other in origins.items():
            start = "noise" if origin == "start" else origin
            protocol = setup.protocol(f"samples, {origin}", (start,), len(other), way.features)
            result.append(Measurement(f"{way.name}_{origin}", way.distance(other), protocol))
    if snapshot.data.spec.kind == "text" and snapshot.data.size > 1:
        perplexities = sample_perplexities(snapshot.data, {"short_run": x, **origins}, snapshot.device)
        result += measurements(perplexities, setup.protocol("samples", ("noise",), n, "language model"))
    return ComparedSamples(result, x, origins)


def measurements(numbers: Mapping[str, Number], protocol: Protocol) -> list[Measurement]:
    """Measurements of one protocol."""
    return [
        Measurement(name, value, protocol)
        if isinstance(value, float)
        else Measurement(name, value.value, protocol, value.standard_error)
        for name, value in numbers.items()
    ]
