"""Log-likelihood of a reference where it can be had, and numbers of its single items."""

import math

import numpy as np
import torch
from torch import Tensor

from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.evaluation.metrics.annealing import TRUSTED, GaussianBase, log_normalizer, posterior_integrals
from pipeline.evaluation.metrics.grid import grid_kl, grid_points
from pipeline.evaluation.metrics.importance_bound import gaussian_log_normalizer
from pipeline.evaluation.metrics.items import item_metrics
from pipeline.evaluation.protocol import EvaluationContext, Measurement
from pipeline.nets.generator import GaussianDecoder
from pipeline.nets.text import SentenceDecoder
from pipeline.nets.weights import device_of
from pipeline.recipe import Recipe
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import run_tasks
from pipeline.sampling.posterior import posterior_tasks

FITTED = 10_000
"""Items that the Gaussian is fitted to which annealing starts from, at most."""
COLLAPSED = 2
"""Effective chains of an item below which its estimate is one chain's."""


def likelihood_metrics(
    bench: EvaluationContext, n: int, chains: int, temperatures: int, items: int, item_chains: int
) -> list[Measurement]:
    """What the kind of model allows.

    An energy of data, at its chains' temperature T: `log_likelihood`, the mean of -U/T - log Z in nats over the first
    n items of the reference, with log Z by `chains` annealed ones (`log_z`); of images `bits_per_dim` too; in the
    plane also on a grid (`grid_kl` where the truth is known). A decoder of latent vectors with posterior chains: the
    mean of log p(x) over the first `items` by `item_chains` annealed chains each.

    Raises:
        BadInput: the model allows neither (`no_likelihood`).
    """
    recipe, model = bench.model.job.recipe, bench.model
    if why := why_no_likelihood(model):
        raise InputError(why)
    energy = recipe.energy(model.nets)
    if energy is None:
        return _of_latent(bench, items, item_chains, chains, temperatures)
    temperature = recipe.sampler(recipe.sample_chain, model.nets, model.update).temperature
    x = bench.reference.batch(np.arange(min(n, bench.reference.size)))["x"]
    found = _on_grid(bench, energy, x, temperature) if model.data.spec.shape == (2,) else []
    return found + _of_data(bench, energy, x, temperature, chains, temperatures)


def why_no_likelihood(model: Snapshot) -> str:
    """Why the model has none; empty where it has one."""
    recipe = model.job.recipe
    if recipe.energy(model.nets) is not None:
        temperature = recipe.sampler(recipe.sample_chain, model.nets, model.update).temperature
        return "" if 0 < temperature < math.inf else f"its chains have temperature {temperature:g}"
    if _posterior(model) and isinstance(model.nets.get("generator"), GaussianDecoder | SentenceDecoder):
        return ""
    return f"{type(recipe).__name__} has no energy of data, nor posterior chains through a decoder with a density"


def why_no_item_metrics(model: Snapshot) -> str:
    """Why the recipe has no numbers of single items; empty where it has some."""
    recipe = model.job.recipe
    return (
        f"{type(recipe).__name__} has no numbers of single items"
        if type(recipe).item_metrics is Recipe.item_metrics
        else ""
    )


def _posterior(model: Snapshot) -> list[str]:
    return [name for name, chain in model.job.recipe.chains.items() if chain.context == "data"]


def _energies(bench: EvaluationContext, energy: Energy, x: Tensor) -> Tensor:
    device = device_of(bench.model.nets)
    with torch.no_grad():
        return torch.cat([energy(part.to(device)).double().cpu() for part in x.split(500)])


def _on_grid(bench: EvaluationContext, energy: Energy, x: Tensor, temperature: float) -> list[Measurement]:
    density = bench.model.data.density
    half = density.half_width if density else 2 * float(x.abs().max())
    points, nats = grid_points(half), -_energies(bench, energy, x) / temperature
    unnormalised = -_energies(bench, energy, points) / temperature
    log_z = float(unnormalised.logsumexp(0)) + math.log((2 * half) ** 2 / len(points))
    error = float(nats.std() / len(nats) ** 0.5)
    protocol = bench.protocol("likelihood on a grid", (), len(x), half=half, points=len(points))
    found = [Measurement("log_z_grid", log_z, protocol)]
    found.append(Measurement("log_likelihood_grid", float(nats.mean()) - log_z, protocol, error))
    if density:
        found.append(Measurement("grid_kl", grid_kl(density, unnormalised.log_softmax(0), points), protocol))
    return found


def _of_data(
    bench: EvaluationContext, energy: Energy, x: Tensor, temperature: float, chains: int, temperatures: int
) -> list[Measurement]:
    data, spec = bench.model.data, bench.model.data.spec
    index = np.linspace(0, data.size - 1, min(data.size, FITTED)).astype(np.int64)
    base, seed = GaussianBase.like(data.batch(index)["x"]), fold(bench.seed, "annealing")
    ratio = log_normalizer(bench.pool, bench.model, base, temperature, chains, temperatures, seed)
    log_z, ess = float(ratio.log_ratio), float(ratio.ess)
    error, nats = max(1 / ess - 1 / chains, 0.0) ** 0.5, -_energies(bench, energy, x) / temperature
    note = "" if ess >= TRUSTED else f"ess below {TRUSTED}: log Z may be far higher than that"
    protocol = bench.protocol("likelihood by annealing", (), len(x), chains=chains, temperatures=temperatures)
    mean, both = float(nats.mean()) - log_z, float((nats.var() / len(nats) + error**2).sqrt())
    found = [
        Measurement("log_z", log_z, protocol, error, ess, note),
        Measurement(
            "log_likelihood", mean, protocol, both, ess, note.replace("log Z may be far higher", "it may be far lower")
        ),
    ]
    if spec.kind == "image":
        scale = -1 / (spec.size * math.log(2))
        found.append(Measurement("bits_per_dim", mean * scale, protocol, both * -scale, ess, note))
    return found


def _of_latent(
    bench: EvaluationContext, items: int, chains: int, prior_chains: int, temperatures: int
) -> list[Measurement]:
    model, recipe, nets = bench.model, bench.model.job.recipe, bench.model.nets
    gaussian = isinstance(nets["generator"], GaussianDecoder)
    device, some = device_of(nets), min(items, bench.reference.size)
    batch, seed = bench.reference.batch(np.arange(some), device), fold(bench.seed, "annealing")
    start = recipe.initial_states(recipe.sample_chain, 1, torch.Generator(device), nets, model.data.spec, None)
    base = GaussianBase.standard(start.shape[1])
    prior = log_normalizer(bench.pool, model, base, 1.0, prior_chains, temperatures, seed)
    found = posterior_integrals(bench.pool, model, _posterior(model)[0], batch, base, chains, temperatures, seed)
    constant = gaussian_log_normalizer(model.data.spec.size, recipe.sigma) if gaussian else 0.0
    nats, ess = found.log_integral - prior.log_ratio - constant, float(found.ess.mean())
    error = float(((1 / found.ess - 1 / chains).clamp(min=0).sum() / some**2 + 1 / prior.ess - 1 / prior_chains).sqrt())
    both = float((nats.var() / some + error**2).sqrt())
    note = "" if ess >= COLLAPSED else f"ess below {COLLAPSED} of {chains} chains an item: it may be far higher"
    what = "likelihood by annealing of latent vectors"
    protocol = bench.protocol(what, (), some, chains=chains, temperatures=temperatures, prior_chains=prior_chains)
    return [Measurement("log_likelihood", float(nats.mean()), protocol, both, ess, note)]


def item_group_metrics(bench: EvaluationContext, n: int) -> list[Measurement]:
    """Means over the first n items of what the recipe scores of single items."""
    recipe, model, data = bench.model.job.recipe, bench.model, bench.reference
    n = min(n, data.size)
    tasks = posterior_tasks(recipe, model.nets, data, n, model.update, fold(bench.seed, "items"))
    answers = run_tasks(bench.pool, model.nets, tasks) if tasks else {}
    found = item_metrics(recipe, model.nets, data, n, answers)
    protocol = bench.protocol("items", (), n, chains=", ".join(dict.fromkeys(task.chain for task in tasks)))
    return [
        Measurement(name, float(score.mean()), protocol, float(score.std() / max(n, 1) ** 0.5))
        for name, score in found.items()
    ]
