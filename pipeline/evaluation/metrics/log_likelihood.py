"""Log-likelihood of reference items: on a grid in the plane, or by annealed importance sampling (AIS)."""

import math

import numpy as np
import torch
from torch import Tensor

from pipeline.chains.task import initial_arrays
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.evaluation.metrics.annealing import RELIABLE_ESS, GaussianBase, log_normalizer, posterior_integrals
from pipeline.evaluation.metrics.grid import grid_kl, grid_points, log_integral
from pipeline.evaluation.metrics.importance_bound import gaussian_log_normalizer
from pipeline.evaluation.protocol import EvaluationSetup, Measurement
from pipeline.nets.generator import GaussianDecoder
from pipeline.nets.text import SentenceDecoder
from pipeline.nets.weights import device_of
from pipeline.recipe import Recipe
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.posterior import posterior_chains

FITTED_ITEMS = 10_000
"""Items that the Gaussian is fitted to where annealing starts, at most."""
COLLAPSED = 2
"""Effective chains of an item below which its estimate rests on one chain."""


def why_no_likelihood(snapshot: Snapshot) -> str:
    """Why the model has no likelihood that AIS can estimate; empty where it has one."""
    recipe = snapshot.recipe
    if recipe.energy(snapshot.nets) is not None:
        if type(recipe).encode is not Recipe.encode:  # annealed chains move under the sample chain's target
            return f"the chains of {type(recipe).__name__} move latent vectors, not data"
        temperature = snapshot.sampler.temperature
        return "" if 0 < temperature < math.inf else f"its chains have temperature {temperature:g}"
    model = recipe.likelihood(snapshot.nets)
    if posterior_chains(recipe) and model and isinstance(model.decoder, GaussianDecoder | SentenceDecoder):
        return ""
    return (
        f"{type(recipe).__name__} has neither an energy of data nor posterior chains through a decoder with a density"
    )


def likelihood_metrics(
    setup: EvaluationSetup, n: int, chains: int, temperatures: int, items: int, item_chains: int
) -> list[Measurement]:
    """`log_likelihood_ais` in nats per item, and what belongs to it.

    With an energy of data, at its chains' temperature T: the mean of -U/T - log Z over the first n items of the
    reference, with log Z (`log_z_ais`) by `chains` annealed chains; for images also `bits_per_dim_ais`. With a decoder
    of latent vectors and posterior chains: the mean of log p(x) over the first `items` items, by `item_chains` annealed
    chains each.

    Raises:
        InputError: the model allows neither (`why_no_likelihood`).
    """
    if why := why_no_likelihood(setup.snapshot):
        raise InputError(why)
    energy = setup.snapshot.recipe.energy(setup.snapshot.nets)
    if energy is None:
        return _of_latent(setup, items, item_chains, chains, temperatures)
    return _of_data(setup, energy, n, chains, temperatures)


def grid_metrics(setup: EvaluationSetup, n: int) -> list[Measurement]:
    """In the plane: `log_z_grid` and, for n reference items, `log_likelihood_grid`.

    Where the density is known also `grid_kl`, KL(truth, exp(-U/T) / Z) in nats, and `<name>_grid_kl` of the recipe's
    other normalised energies.
    """
    snapshot, nets = setup.snapshot, setup.snapshot.nets
    density, x = snapshot.data.density, setup.reference.batch(np.arange(min(n, setup.reference.size)))["x"]
    half = density.half_width if density else 2 * float(x.abs().max())
    points = grid_points(half)
    protocol = setup.protocol("likelihood on a grid", (), len(x), half=half, points=len(points))
    energy, result = snapshot.recipe.energy(nets), list[Measurement]()
    if energy is not None and 0 < (temperature := snapshot.sampler.temperature) < math.inf:
        log_p = -_energies(setup, energy, points) / temperature
        nats = -_energies(setup, energy, x) / temperature
        log_z = log_integral(log_p, half)
        result.append(Measurement("log_z_grid", log_z, protocol))
        error = float(nats.std() / len(nats) ** 0.5)
        result.append(Measurement("log_likelihood_grid", float(nats.mean()) - log_z, protocol, error))
        if density:
            result.append(Measurement("grid_kl", grid_kl(density, log_p.log_softmax(0), points), protocol))
    for name, other in snapshot.recipe.normalized_energies(nets).items():
        log_q = (-_energies(setup, other, points)).log_softmax(0)
        if density:
            result.append(Measurement(f"{name}_grid_kl", grid_kl(density, log_q, points), protocol))
    return result


def _energies(setup: EvaluationSetup, energy: Energy, x: Tensor) -> Tensor:
    device = setup.snapshot.device
    with torch.no_grad():
        return torch.cat([energy(part.to(device)).double().cpu() for part in x.split(500)])


def _of_data(setup: EvaluationSetup, energy: Energy, n: int, chains: int, temperatures: int) -> list[Measurement]:
    data, temperature = setup.snapshot.data, setup.snapshot.sampler.temperature
    x = setup.reference.batch(np.arange(min(n, setup.reference.size)))["x"]
    index = np.linspace(0, data.size - 1, min(data.size, FITTED_ITEMS)).astype(np.int64)
    base, seed = GaussianBase.fit(data.batch(index)["x"]), fold(setup.seed, "annealing")
    ratio = log_normalizer(setup.pool, setup.snapshot, base, temperature, chains, temperatures, seed)
    log_z, ess = float(ratio.log_ratio), float(ratio.ess)
    error, nats = max(1 / ess - 1 / chains, 0.0) ** 0.5, -_energies(setup, energy, x) / temperature
    low = f"ess below {RELIABLE_ESS}: "
    notes = (f"{low}log Z may be far higher", f"{low}it may be far lower") if ess < RELIABLE_ESS else ("", "")
    protocol = setup.protocol("likelihood by annealing", (), len(x), chains=chains, temperatures=temperatures)
    mean, total_error = float(nats.mean()) - log_z, float((nats.var() / len(nats) + error**2).sqrt())
    result = [
        Measurement("log_z_ais", log_z, protocol, error, ess, notes[0]),
        Measurement("log_likelihood_ais", mean, protocol, total_error, ess, notes[1]),
    ]
    if data.spec.kind == "image":
        scale = -1 / (data.spec.size * math.log(2))
        result.append(Measurement("bits_per_dim_ais", mean * scale, protocol, total_error * -scale, ess, notes[1]))
    return result


def _of_latent(
    setup: EvaluationSetup, items: int, chains: int, prior_chains: int, temperatures: int
) -> list[Measurement]:
    snapshot, recipe, nets = setup.snapshot, setup.snapshot.recipe, setup.snapshot.nets
    model, spec = recipe.likelihood(nets), snapshot.data.spec
    device, n = device_of(nets), min(items, setup.reference.size)
    batch, seed = setup.reference.batch(np.arange(n), device), fold(setup.seed, "annealing")
    start, _ = initial_arrays(recipe, recipe.sample_chain, 1, torch.Generator(device), nets, spec, None)
    base = GaussianBase.standard(start.shape[1])
    prior = log_normalizer(setup.pool, snapshot, base, 1.0, prior_chains, temperatures, seed)
    chain = posterior_chains(recipe)[0]
    posterior = posterior_integrals(setup.pool, snapshot, chain, batch, base, chains, temperatures, seed)
    gaussian = isinstance(model.decoder, GaussianDecoder)
    constant = gaussian_log_normalizer(spec.size, model.sigma) if gaussian else 0.0
    nats, ess = posterior.log_integral - prior.log_ratio - constant, float(posterior.ess.mean())
    item_errors = (1 / posterior.ess - 1 / chains).clamp(min=0).sum() / n**2
    error = float((item_errors + 1 / prior.ess - 1 / prior_chains).sqrt())
    total_error = float((nats.var() / n + error**2).sqrt())
    note = "" if ess >= COLLAPSED else f"ess below {COLLAPSED} of {chains} chains per item: it may be far higher"
    group = "likelihood by annealing of latent vectors"
    protocol = setup.protocol(group, (), n, chains=chains, temperatures=temperatures, prior_chains=prior_chains)
    return [Measurement("log_likelihood_ais", float(nats.mean()), protocol, total_error, ess, note)]
