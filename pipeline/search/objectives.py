"""What a model is worth, in one number, on items that were held back from learning: what a search goes by.

It is never the training loss: differences of energies hover about 0 for good and bad models alike.
"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from pipeline.chains.local_pool import Pool
from pipeline.data.dataset import Dataset
from pipeline.errors import Diverged, InputError
from pipeline.evaluation.metrics.grid import grid_kl, grid_points
from pipeline.evaluation.metrics.items import detection_metrics, item_metrics
from pipeline.evaluation.metrics.perplexity import sentence_nll
from pipeline.evaluation.metrics.samples import model_grid_density, sample_distance
from pipeline.nets.weights import device_of
from pipeline.rng import fold
from pipeline.runs.job import Job
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import decode_states, draw_tasks, final_states, run_tasks
from pipeline.sampling.long_chains import advance_repeatedly, start_tasks
from pipeline.sampling.posterior import posterior_tasks

LONG = 10
"""Multiples of K that `frechet_long` runs chains from data for."""


class Objective(NamedTuple):
    """A quality by name, and which way is better."""

    name: str
    better: Literal["min", "max"]
    about: str

    @property
    def worst(self) -> float:
        """What a diverged model is worth."""
        return math.inf if self.better == "min" else -math.inf


OBJECTIVES = {
    one.name: one
    for one in (
        Objective(
            "frechet", "min", "Fréchet distance of fresh samples to the items held back, over a classifier's features"
        ),
        Objective(
            "frechet_long",
            "min",
            "the greater of that (of the bank's states where there is a bank), and that of chains "
            f"of {LONG} K steps from data",
        ),
        Objective("kl", "min", "KL(truth, fresh samples) on a grid, nats, where the density is known"),
        Objective("grid_kl", "min", "KL(truth, exp(-U/T)) on a grid, nats, where the density is known"),
        Objective("mse", "min", "squared error of reconstruction, a coordinate"),
        Objective("nll_nats", "min", "negative log-likelihood of sentences, nats"),
        Objective("accuracy", "max", "share of items whose label is told"),
        Objective("auprc", "max", "average precision of energies in telling the label held out"),
    )
}


def check_objective(objective: Objective, job: Job[Any], data: Dataset) -> None:
    """Raise BadInput where the job's models cannot be judged by the objective."""
    name, plane = objective.name, data.density is not None
    if name in ("kl", "grid_kl") and not plane:
        raise InputError(f"--objective {name}: the density of {job.data.source} is not known")
    if name.startswith("frechet") and not (data.spec.kind == "image" and data.spec.num_classes):
        raise InputError(f"--objective {name}: it needs images with labels")
    if name == "nll_nats" and data.spec.kind != "text":
        raise InputError("--objective nll: it needs text")
    if name == "auprc" and job.data.held_out_class is None:
        raise InputError("--objective auprc: it needs a label that is held out (--held-out)")
    if name not in ("kl", "grid_kl") and not (len(data.validation_rows) and len(data.test_rows)):
        raise InputError(f"--objective {name}: it needs items held back (--validation-share, --test-share)")
    if name == "accuracy" and not data.spec.num_classes:
        raise InputError("--objective accuracy: it needs labels")


def quality(model: Snapshot, objective: Objective, part: Dataset, n: int, seed: int, pool: Pool) -> float:
    """What the model is worth on a part of its data, or, where the density is known, by the truth.

    Args:
        model: of a run.
        objective: one that `check` lets pass.
        part: items that the model has not learned from.
        n: samples that are drawn, or, at most, items that are scored.
        seed: of the chains.
        pool: what moves them.

    Raises:
        BadInput: the recipe has no such score.
        Diverged: samples are not finite.
    """
    name, recipe, device = objective.name, model.job.recipe, device_of(model.nets)
    if name == "grid_kl":
        return _grid_kl(model)
    if name == "nll_nats":
        return float(sentence_nll(recipe, model.nets, part)["nll_nats"])
    if name in ("kl", "frechet", "frechet_long"):
        distance = sample_distance(model.data, device, part)
        assert distance is not None
        if name == "frechet_long":
            return max(distance.of(x) for x in (_short(model, n, seed, pool), _long(model, n, seed, pool)))
        return distance.of(_fresh(model, n, seed, pool))
    return _scored(model, name, part, min(n, part.size), seed, pool)


def _finite(model: Snapshot, x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise Diverged("samples", model.update, model.update, -1, model.job.seed)
    return x


def _fresh(model: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    """Data decoded from n fresh chains."""
    recipe = model.job.recipe
    tasks = draw_tasks(recipe, model.nets, model.data, n, model.update, seed)
    states = _finite(model, final_states(run_tasks(pool, model.nets, tasks), recipe.sample_chain))
    return decode_states(recipe, model.nets, states, seed)


def _short(model: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    """What learning sees of the model: states of its bank, or fresh samples where it has none."""
    if model.bank is None or len(model.bank) < 2:
        return _fresh(model, n, seed, pool)
    chosen = np.random.default_rng(fold(seed, "bank")).permutation(len(model.bank))[:n]
    return decode_states(model.job.recipe, model.nets, model.bank[chosen], seed)


def _long(model: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    tasks = start_tasks(model, "data", n, seed)
    if tasks is None:
        raise InputError("--objective frechet_long: the model's chains have latent vectors for states, and no data")
    *_, last = advance_repeatedly(pool, model, tasks, model.kernel.steps, LONG)
    return _finite(model, last.x)


def _grid_kl(model: Snapshot) -> float:
    recipe, nets, truth = model.job.recipe, model.nets, model.data.density
    assert truth is not None
    learned = model_grid_density(
        recipe, nets, truth, recipe.sampler(recipe.sample_chain, nets, model.update).temperature
    )
    if learned is None:
        raise InputError("--objective grid_kl: the model has no energy of data")
    return grid_kl(truth, learned, grid_points(truth.half_width))


def _scored(model: Snapshot, name: str, part: Dataset, n: int, seed: int, pool: Pool) -> float:
    recipe, nets = model.job.recipe, model.nets
    part = part._replace(
        rows=np.sort(np.random.default_rng(0).permutation(part.rows)[:n])
    )  # not the first labels alone
    tasks = posterior_tasks(recipe, nets, part, n, model.update, seed)
    scores = item_metrics(recipe, nets, part, n, run_tasks(pool, model.nets, tasks) if tasks else {})
    wanted = "energy" if name == "auprc" else name
    if wanted not in scores:
        raise InputError(f"--objective {name}: {type(recipe).__name__} scores {', '.join(scores) or 'nothing'}")
    if name != "auprc":
        return float(scores[name].mean())
    labels = part.batch(np.arange(n))["label"].numpy()
    return float(detection_metrics(scores["energy"], labels == model.job.data.held_out_class)["auprc"])
