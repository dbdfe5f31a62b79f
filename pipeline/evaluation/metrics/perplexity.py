"""Perplexities of and by sampled sentences, and the likelihood of real ones (2006.08205, section 4.2)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.evaluation.judges.language_model import language_model, perplexity, real_language_model
from pipeline.evaluation.metrics.importance_sampling import log_marginal
from pipeline.nets.generator import decoder_of
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import Recipe
from pipeline.rng import generator

CHAINS, TEMPERATURES, ITEMS = 4, 50, 200
"""What the likelihood is estimated with: chains a sentence, temperatures, and sentences at most."""


def sample_perplexities(
    data: Dataset, drawn: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> dict[str, float]:
    """`fppl` of `short_run` samples, `fppl_<name>` of others; where sentences are held back also `rppl`, `fppl_floor`.

    The floor is the perplexity of the held back under the language model of the real, so that it is RPPL's floor as
    well if as many sentences are drawn as are learned from; more are not used for RPPL, and with fewer it is higher.
    """
    held_back = data.test.batch(np.arange(data.test.size))["x"]
    net, found = real_language_model(data, device), {}
    for what, x in drawn.items():
        if what == "short_run" or not torch.equal(x, drawn["short_run"]):  # a chain of no steps ends where it starts
            found[f"fppl_{what}".removesuffix("_short_run")] = perplexity(net, x)
            if len(held_back):
                other = language_model(x[: data.size], data.spec, device)
                found[f"rppl_{what}".removesuffix("_short_run")] = perplexity(other, held_back)
    return found | ({"fppl_floor": perplexity(net, held_back)} if len(held_back) else {})


def sentence_nll(recipe: Recipe, nets: Nets, data: Dataset) -> dict[str, float]:
    """`nll_nats`, the mean of -log p(x) in nats a sentence, over the first 200 sentences, by annealed importance sampling.

    `nll_nats_error` is the standard error of the estimate alone (that of the choice of sentences is larger, but is the same
    for all models), `nll_chains` the effective number of the 4 chains of a sentence.
    """
    device = device_of(nets)
    items, rng = data.batch(np.arange(min(ITEMS, data.size)), device), generator(0, device)
    prior = recipe.target(recipe.sample_chain, nets, None)
    latent_dim = recipe.initial_states(recipe.sample_chain, 1, rng, nets, data.spec, None).shape[1]
    found = log_marginal(prior, decoder_of(nets), items, 1.0, latent_dim, CHAINS, TEMPERATURES, rng)
    error = (1 / found.ess - 1 / CHAINS).clamp(min=0).sum().sqrt() / len(found.ess)
    return {
        "nll_nats": -float(found.log_ratio.mean()),
        "nll_nats_error": float(error),
        "nll_chains": float(found.ess.mean()),
    }
