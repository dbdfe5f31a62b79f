"""Perplexities of and by sampled sentences (2006.08205, section 4.2), and the likelihood of real sentences.

FPPL is the perplexity of samples under a language model of real sentences; it is high where samples are no language.
RPPL is the perplexity of held-out real sentences under a language model of samples; it is high where a model never
samples some of the language.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipeline.chains.task import initial_arrays
from pipeline.data.dataset import Dataset
from pipeline.evaluation.judges.language_model import language_model, perplexity, real_language_model
from pipeline.evaluation.metrics.importance_sampling import log_marginal
from pipeline.nets.generator import decoder_of
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import Recipe
from pipeline.rng import generator

CHAINS, TEMPERATURES, ITEMS = 4, 50, 200
"""Of the likelihood: chains per sentence, temperatures, and sentences at most."""


def sample_perplexities(
    data: Dataset, samples: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> dict[str, float]:
    """`fppl` of the samples named `short_run` and `fppl_<name>` of others; with held-out sentences also `rppl`.

    `fppl_floor`, the perplexity of held-out sentences under the language model of real ones, is a floor of FPPL. It is
    one of RPPL too if there are as many samples as training sentences; more samples are not used, and fewer make RPPL
    higher. Samples that equal those of `short_run` are left out: a chain without steps ends where it starts.
    """
    held_out = data.test.batch(np.arange(data.test.size))["x"]
    net, result = real_language_model(data, device), {}
    for name, x in samples.items():
        if name == "short_run" or not torch.equal(x, samples["short_run"]):
            result[f"fppl_{name}".removesuffix("_short_run")] = perplexity(net, x)
            if len(held_out):
                other = language_model(x[: data.size], data.spec, device)
                result[f"rppl_{name}".removesuffix("_short_run")] = perplexity(other, held_out)
    return result | ({"fppl_floor": perplexity(net, held_out)} if len(held_out) else {})


def sentence_nll(recipe: Recipe, nets: Nets, data: Dataset) -> dict[str, float]:
    """`nll_nats`, the mean of -log p(x) per sentence over the first 200 sentences, by annealed importance sampling.

    `nll_nats_error` is the standard error of the estimate alone: that of the choice of sentences is larger, but the
    same for all models. `nll_nats_ess` is the mean effective number of the 4 chains per sentence.
    """
    device = device_of(nets)
    items, rng = data.batch(np.arange(min(ITEMS, data.size)), device), generator(0, device)
    prior = recipe.target(recipe.sample_chain, nets, None)
    latent_dim = initial_arrays(recipe, recipe.sample_chain, 1, rng, nets, data.spec, None)[0].shape[1]
    ratios = log_marginal(prior, decoder_of(nets), items, 1.0, latent_dim, CHAINS, TEMPERATURES, rng)
    error = (1 / ratios.ess - 1 / CHAINS).clamp(min=0).sum().sqrt() / len(ratios.ess)
    return {
        "nll_nats": -float(ratios.log_ratio.mean()),
        "nll_nats_error": float(error),
        "nll_nats_ess": float(ratios.ess.mean()),
    }
