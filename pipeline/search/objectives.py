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
from pipeline.evaluation.comparison import default_comparison
from pipeline.evaluation.metrics.grid import grid_kl, grid_log_density, grid_points
from pipeline.evaluation.metrics.items import detection_metrics, item_metrics
from pipeline.evaluation.metrics.perplexity import sentence_nll
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


def quality(snapshot: Snapshot, objective: Objective, part: Dataset, n: int, seed: int, pool: Pool) -> float:
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
    name, recipe, device = objective.name, snapshot.job.recipe, device_of(snapshot.nets)
    if name == "grid_kl":
        return _grid_kl(snapshot)
    if name == "nll_nats":
        return float(sentence_nll(recipe, snapshot.nets, part)["nll_nats"])
    if name in ("kl", "frechet", "frechet_long"):
        distance = default_comparison(snapshot.data, device, part)
        assert distance is not None
        if name == "frechet_long":
            return max(distance.distance(x) for x in (_short(snapshot, n, seed, pool), _long(snapshot, n, seed, pool)))
        return distance.distance(_fresh(snapshot, n, seed, pool))
    return _scored(snapshot, name, part, min(n, part.size), seed, pool)


def _finite(snapshot: Snapshot, x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise Diverged("samples", snapshot.update, snapshot.update, -1, snapshot.job.seed)
    return x


def _fresh(snapshot: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    """Data decoded from n fresh chains."""
    recipe = snapshot.job.recipe
    tasks = draw_tasks(recipe, snapshot.nets, snapshot.data, n, snapshot.update, seed)
    states = _finite(snapshot, final_states(run_tasks(pool, snapshot.nets, tasks), recipe.sample_chain))
    return decode_states(recipe, snapshot.nets, states, seed)


def _short(snapshot: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    """What learning sees of the model: states of its bank, or fresh samples where it has none."""
    if snapshot.bank is None or len(snapshot.bank) < 2:
        return _fresh(snapshot, n, seed, pool)
    chosen = np.random.default_rng(fold(seed, "bank")).permutation(len(snapshot.bank))[:n]
    return decode_states(snapshot.job.recipe, snapshot.nets, snapshot.bank[chosen], seed)


def _long(snapshot: Snapshot, n: int, seed: int, pool: Pool) -> Tensor:
    tasks = start_tasks(snapshot, "data", n, seed)
    if tasks is None:
        raise InputError("--objective frechet_long: the model's chains have latent vectors for states, and no data")
    *_, last = advance_repeatedly(pool, snapshot, tasks, snapshot.sampler.steps, LONG)
    return _finite(snapshot, last.x)


def _grid_kl(snapshot: Snapshot) -> float:
    truth, energy = snapshot.data.density, snapshot.job.recipe.energy(snapshot.nets)
    assert truth is not None
    if energy is None:
        raise InputError("the model has no energy of data", "objective", "grid_kl")
    points = grid_points(truth.half_width)
    log_p = grid_log_density(energy, points.to(device_of(snapshot.nets)), snapshot.sampler.temperature)
    return grid_kl(truth, log_p.cpu(), points)


def _scored(snapshot: Snapshot, name: str, part: Dataset, n: int, seed: int, pool: Pool) -> float:
    recipe, nets = snapshot.job.recipe, snapshot.nets
    part = part._replace(
        rows=np.sort(np.random.default_rng(0).permutation(part.rows)[:n])
    )  # not the first labels alone
    tasks = posterior_tasks(recipe, nets, part, n, snapshot.update, seed)
    scores = item_metrics(recipe, nets, part, n, run_tasks(pool, snapshot.nets, tasks) if tasks else {})
    wanted = "energy" if name == "auprc" else name
    if wanted not in scores:
        raise InputError(f"--objective {name}: {type(recipe).__name__} scores {', '.join(scores) or 'nothing'}")
    if name != "auprc":
        return float(scores[name].mean())
    labels = part.batch(np.arange(n))["label"].numpy()
    return float(detection_metrics(scores["energy"], labels == snapshot.job.data.held_out_class)["auprc"])
