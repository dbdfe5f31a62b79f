"""Objectives of a search: a model's quality as one number, measured on items that training did not use.

It is never the training loss: energy gaps hover about 0 for good and bad models alike.
"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from pipeline.chains.local_pool import Pool
from pipeline.data.dataset import Dataset
from pipeline.errors import Diverged, InputError
from pipeline.evaluation.comparison import default_comparison
from pipeline.evaluation.judges.classifier import why_no_classifier
from pipeline.evaluation.metrics.grid import grid_kl, grid_log_density, grid_points
from pipeline.evaluation.metrics.items import detection_metrics, find_held_out
from pipeline.evaluation.metrics.perplexity import sentence_nll
from pipeline.rng import fold
from pipeline.runs.job import Job
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import decode_states, draw_tasks, final_states, run_tasks
from pipeline.sampling.long_chains import advance_repeatedly, start_tasks
from pipeline.sampling.posterior import item_metrics, posterior_tasks

LONG_RUN_MULTIPLE = 10
"""Multiple of K that `frechet_long` runs chains from data for."""


class Objective(NamedTuple):
    """A quality, and its better direction."""

    name: str
    direction: Literal["min", "max"]
    description: str

    @property
    def sign(self) -> int:
        """1 where lower is better, -1 where higher is."""
        return 1 if self.direction == "min" else -1

    @property
    def worst(self) -> float:
        """The quality of a diverged model."""
        return self.sign * math.inf


OBJECTIVES = {
    one.name: one
    for one in (
        Objective(
            "frechet", "min", "Fréchet distance of fresh samples to held-out items, over a classifier's features"
        ),
        Objective(
            "frechet_long",
            "min",
            "the greater of frechet (of the bank's states where there is a bank), and the same of chains of "
            f"{LONG_RUN_MULTIPLE} K steps from data",
        ),
        Objective("kl", "min", "KL(truth, fresh samples) on a grid in nats, where the density is known"),
        Objective("grid_kl", "min", "KL(truth, exp(-U/T)) on a grid in nats, where the density is known"),
        Objective("mse", "min", "squared reconstruction error per coordinate"),
        Objective("nll_nats", "min", "negative log-likelihood of sentences in nats"),
        Objective("accuracy", "max", "share of items whose label is predicted"),
        Objective("auprc", "max", "average precision of energies in the detection of the held-out class"),
    )
}


def check_objective(objective: Objective, job: Job[Any], data: Dataset) -> None:
    """Raise InputError where the job's models have no such quality."""
    name, no_classifier, known = objective.name, why_no_classifier(data), data.density is not None
    missing = {
        f"the density of {job.data.source} is not known": name in ("kl", "grid_kl") and not known,
        f"needs images with labels: {no_classifier}": name.startswith("frechet") and bool(no_classifier),
        f"samples of {type(job.recipe).__name__} are not data": name in ("kl", "frechet", "frechet_long")
        and not job.recipe.samples_are_data,
        "needs text": name == "nll_nats" and data.spec.kind != "text",
        "needs a held_out_class": name == "auprc" and job.data.held_out_class is None,
        "needs held-out items: a validation_share and a test_share": name not in ("kl", "grid_kl")
        and not (len(data.validation_rows) and len(data.test_rows)),
        "needs labels": name == "accuracy" and not data.spec.num_classes,
    }
    for why, is_missing in missing.items():
        if is_missing:
            raise InputError(why, "objective", name)


def measure_quality(snapshot: Snapshot, objective: Objective, items: Dataset, n: int, seed: int, pool: Pool) -> float:
    """A model's quality on held-out items or, where the density is known, by the density.

    Args:
        snapshot: the model.
        objective: one that `check_objective` accepts.
        items: held-out items.
        n: number of samples or, at most, of items.
        seed: of the chains.
        pool: moves the chains.

    Raises:
        InputError: the recipe has no such metric.
        Diverged: samples are not finite.
    """
    name, recipe, device = objective.name, snapshot.recipe, snapshot.device
    if name == "grid_kl":
        return _grid_kl(snapshot)
    if name == "nll_nats":
        return float(sentence_nll(recipe, snapshot.nets, items)["nll_nats"])
    if name in ("kl", "frechet", "frechet_long"):
        comparison = default_comparison(snapshot.data, device, items)
        assert comparison is not None
        if name == "frechet_long":
            samples = _training_samples(snapshot, n, seed, pool), _long_run_samples(snapshot, n, seed, pool)
            return max(comparison.distance(x) for x in samples)
        return comparison.distance(_fresh_samples(snapshot, n, seed, pool))
    return _item_quality(snapshot, name, items, min(n, items.size), seed, pool)


def _require_finite(snapshot: Snapshot, x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise Diverged("samples", snapshot.update, snapshot.update, -1, snapshot.job.seed)
    return x


def _fresh_samples(snapshot: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    results = run_tasks(pool, snapshot.nets, draw_tasks(snapshot, n, seed))
    states = final_states(results, snapshot.recipe.sample_chain)
    return decode_states(snapshot, _require_finite(snapshot, states), seed)


def _training_samples(snapshot: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    """Samples like those that training uses: states of the bank, or fresh samples where there is no bank."""
    if snapshot.bank is None or len(snapshot.bank) < 2:
        return _fresh_samples(snapshot, n, seed, pool)
    index = np.random.default_rng(fold(seed, "bank")).permutation(len(snapshot.bank))[:n]
    return decode_states(snapshot, snapshot.bank[index], seed)


def _long_run_samples(snapshot: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    tasks = start_tasks(snapshot, "data", n, seed)
    if tasks is None:
        raise InputError("data cannot be encoded to states of the model's chains", "objective", "frechet_long")
    *_, last = advance_repeatedly(pool, snapshot, tasks, snapshot.sampler.steps, LONG_RUN_MULTIPLE)
    return _require_finite(snapshot, last.x)


def _grid_kl(snapshot: Snapshot) -> float:
    truth, energy = snapshot.data.density, snapshot.recipe.energy(snapshot.nets)
    assert truth is not None
    if energy is None:
        raise InputError("the model has no energy of data", "objective", "grid_kl")
    points = grid_points(truth.half_width)
    log_p = grid_log_density(energy, points.to(snapshot.device), snapshot.sampler.temperature)
    return grid_kl(truth, log_p.cpu(), points)


def _item_quality(snapshot: Snapshot, name: str, items: Dataset, n: int, seed: int, pool: Pool) -> float:
    rows = np.sort(np.random.default_rng(0).permutation(items.rows)[:n])  # the first rows may have few of the labels
    items = items._replace(rows=rows)
    tasks = posterior_tasks(snapshot, items, n, seed)
    metrics = item_metrics(snapshot, items, n, run_tasks(pool, snapshot.nets, tasks) if tasks else {})
    wanted = "energy" if name == "auprc" else name
    if wanted not in metrics:
        recipe, own = type(snapshot.recipe).__name__, ", ".join(metrics) or "none"
        raise InputError(f"the metrics of single items of {recipe} are {own}", "objective", name)
    if name != "auprc":
        return float(metrics[name].mean())
    label = snapshot.job.data.held_out_class
    assert label is not None
    known, anomalous = find_held_out(items, n, label)
    return detection_metrics(metrics["energy"][known], anomalous)["auprc"]
