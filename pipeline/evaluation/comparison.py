"""Samples of a model beside data: over features, or where the density is known by KL on a grid."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.evaluation.judges.features import FeatureBatch, Features, MapFunction
from pipeline.evaluation.metrics.frechet import PARTS, MeanEstimate, class_score, frechet_distance, kernel_distance
from pipeline.evaluation.metrics.perplexity import sample_perplexities
from pipeline.evaluation.metrics.samples import sample_distance
from pipeline.evaluation.protocol import EvaluationContext, Measurement, Protocol
from pipeline.nets.weights import device_of
from pipeline.rng import fold
from pipeline.sampling.draw import decode_states, draw_tasks, final_states, run_tasks

Number: TypeAlias = float | MeanEstimate

FEWEST_ITEMS = 2 * PARTS
"""Items that the parts of a kernel distance take."""


class Comparison(NamedTuple):
    """A way to compare samples with the reference."""

    name: str
    """Of the distance: `frechet`, `fid`, or `kl`, of the truth."""
    features: str
    """By what; empty for `kl`."""
    distance: Callable[[Tensor], float]
    """Of samples (n, *d)."""
    all: Callable[[Tensor], dict[str, Number]]
    """That and whatever else these features tell of samples, by name."""
    floor: Callable[[int], dict[str, Number]]
    """The same where no model is at fault: the reference's even items beside its odd ones, or n exact samples."""


def density_comparison(bench: EvaluationContext) -> Comparison:
    """By KL of the truth, as far as a kernel of bandwidth .1 lets samples tell it."""
    found = sample_distance(bench.model.data, device_of(bench.model.nets))
    assert found is not None

    def distance(x: Tensor) -> float:
        return found.of(x) if torch.isfinite(x).all() else math.nan

    return Comparison(found.name, "", distance, lambda x: {found.name: distance(x)}, lambda n: dict(found.floor(n)))


def feature_comparison(features: Features, reference: Dataset, most: int, each: MapFunction = map) -> Comparison:
    """Over features of at most so many items of the reference; `each` says who computes them."""
    index = np.arange(reference.size)
    if reference.size > most:
        index = np.linspace(0, reference.size - 1, most).astype(np.int64)
    parts = np.array_split(index, len(index) // 500 + 1)
    real = features(torch.cat([reference.batch(part)["x"] for part in parts]), each)

    def distance(x: Tensor) -> float:
        return frechet_distance(features(x, each).features, real.features) if torch.isfinite(x).all() else math.nan

    def told(seen: FeatureBatch, other: Tensor) -> dict[str, Number]:
        found: dict[str, Number] = {features.frechet: frechet_distance(seen.features, other)}
        found[features.kernel] = kernel_distance(seen.features, other)
        return found if seen.logits is None else {**found, features.score: class_score(seen.logits)}

    def all_(x: Tensor) -> dict[str, Number]:
        if torch.isfinite(x).all():
            return told(features(x, each), real.features)
        return dict.fromkeys(told(real, real.features), math.nan)

    def floor(n: int) -> dict[str, Number]:
        halves = (FeatureBatch(*(None if t is None else t[i::2] for t in real)) for i in range(2))  # type: ignore[arg-type]
        return {f"{name}_floor": value for name, value in told(next(halves), next(halves).features).items()}

    return Comparison(features.frechet, features.name, distance, all_, floor)


def comparisons(bench: EvaluationContext, features: Sequence[Features], most: int) -> list[Comparison]:
    """By the density where it is known, and by all of the features. Raises BadInput where items are too few."""
    if features and min(bench.reference.size, most) < 2 * FEWEST_ITEMS:
        few = f"{bench.reference.size} items, at most {most} of them"
        raise InputError(
            f"--split {bench.split} --reference {most}: {few}, are too few to compare with ({2 * FEWEST_ITEMS})"
        )
    known = [density_comparison(bench)] if bench.model.data.density is not None else []
    return [*known, *(feature_comparison(one, bench.reference, most, bench.each) for one in features)]


def compare_samples(bench: EvaluationContext, ways: Sequence[Comparison], n: int) -> tuple[list[Measurement], Tensor]:
    """N fresh samples of the model beside the reference, by each way (sentences: by perplexity); the samples."""
    recipe, nets, data = bench.model.job.recipe, bench.model.nets, bench.model.data
    tasks = draw_tasks(recipe, nets, data, n, bench.model.update, fold(bench.seed, "samples"))
    states = final_states(run_tasks(bench.pool, bench.model.nets, tasks), recipe.sample_chain)
    x, found = decode_states(recipe, nets, states, bench.seed), list[Measurement]()
    for way in ways:
        found += _measured(way.all(x), bench.protocol("samples", ("noise",), n, way.features))
        found += _measured(way.floor(n), bench.protocol("samples floor", (), n, way.features))
    if data.spec.kind == "text":
        told = sample_perplexities(data, {"short_run": x}, device_of(nets))
        found += _measured(told, bench.protocol("samples", ("noise",), n, "language model"))
    return found, x


def _measured(told: Mapping[str, Number], protocol: Protocol) -> list[Measurement]:
    return [
        Measurement(
            name, *((value, protocol) if isinstance(value, float) else (value.value, protocol, value.standard_error))
        )
        for name, value in told.items()
    ]
