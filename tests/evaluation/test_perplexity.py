"""Perplexities and likelihoods of sentences whose distribution is known."""

import numpy as np
import pytest
import torch
from running import sentences_in

from pipeline.batch import Spec
from pipeline.data.dataset import load_data
from pipeline.evaluation.judges.language_model import language_model, perplexity
from pipeline.evaluation.metrics import perplexity as perplexity_module
from pipeline.evaluation.metrics.perplexity import sample_perplexities, sentence_nll
from pipeline.recipe import init_networks
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.rng import generator

CPU = torch.device("cpu")


def uniform_words(n, kinds, longest, seed):
    """Sentences of independent, equally likely words of `kinds` kinds, of which one is the end."""
    x = torch.randint(1, kinds + 1, (n, longest), generator=generator(seed))
    x[:, -1] = 1
    return x * ((x == 1).cumsum(1).cumsum(1) < 2)


def test_the_perplexity_of_independent_equally_likely_words_is_their_number():
    kinds, longest = 6, 60
    spec = Spec("text", (longest,), 0, (0.0, *[1 / kinds] * kinds))
    x, others = (uniform_words(1500, kinds, longest, seed) for seed in (0, 1))
    value = perplexity(language_model(x, spec), others)
    assert kinds - 0.01 < value < 1.01 * kinds


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_data(sentences_in(tmp_path_factory.mktemp("text"), 2500), test_share=0.2)


@pytest.mark.slow
def test_perplexities_detect_what_is_no_language_and_what_is_missing(data):
    real = data.batch(np.arange(data.size))["x"]
    order = torch.randperm(6, generator=generator(0))
    shuffled = torch.cat([real[:, :6][:, order], real[:, 6:]], 1)
    cats = real[(real[:, 1] == real[0, 1])]
    values = sample_perplexities(data, {"short_run": real, "shuffled": shuffled, "cats": cats, "again": real.clone()})
    exact = float(np.exp(3 * np.log(8) / 7))
    assert exact < values["fppl_floor"] < 1.05 * exact
    assert values["rppl"] == values["fppl_floor"]
    assert values["fppl_shuffled"] > 10 * exact
    assert values["fppl_cats"] < 1.05 * exact
    assert values["rppl_cats"] > 1.5 * exact
    assert "fppl_again" not in values
    assert set(sample_perplexities(data._replace(test_rows=data.test_rows[:0]), {"short_run": real[:50]})) == {"fppl"}


@pytest.mark.slow
def test_the_likelihood_of_sentences_is_the_integral_over_latent_vectors(data, monkeypatch):
    monkeypatch.setattr(perplexity_module, "ITEMS", 12)
    monkeypatch.setattr(perplexity_module, "CHAINS", 50)
    recipe = LatentPrior(latent_dim=1, energy_width=8, width=16)
    nets = init_networks(recipe, data.spec, 0, CPU)
    for net in nets.values():
        net.eval().requires_grad_(False)
    nets["generator"].first.weight.mul_(3)
    nets["generator"].embedding.weight.mul_(10)
    nets["energy"][-1].weight.mul_(20)
    z = torch.linspace(-8, 8, 801)[:, None]
    items = {k: v.repeat_interleave(len(z), 0) for k, v in data.batch(np.arange(12)).items()}
    prior = -recipe.target("prior", nets, None)(z).double()
    of_z = -nets["generator"].loss(z.repeat(12, 1), items, 1.0).view(12, -1).double()
    exact = -((of_z + prior).logsumexp(1) - prior.logsumexp(0)).mean()
    assert of_z.exp().std(1).div(of_z.exp().mean(1)).min() > 0.3
    values = sentence_nll(recipe, nets, data)
    assert values["nll_nats_ess"] > 35
    error = (values["nll_nats_error"] ** 2 + 1e-5) ** 0.5  # with that of the prior's normaliser, by 1000 chains
    assert abs(values["nll_nats"] - float(exact)) < 4 * error
