"""Perplexities of and by sentences that a model has drawn (2006.08205, section 4.2), and their likelihood.

FPPL is the perplexity of drawn sentences under a language model of the real ones: high where what is drawn is no
language. RPPL is the perplexity of real sentences held back under a language model of the drawn ones: high where some
of the language is never drawn. Both language models are this project's own: one small recurrent network, trained with a
fixed seed. So perplexities compare models on the same data, and are not those of other papers.

Words are those of the data's vocabulary; every other word is the one word "unknown", for which a model pays as for any
other. The end of a sentence counts as a word, as in the length of sentences.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from pipeline.batch import Batch, Spec
from pipeline.data import Dataset
from pipeline.evaluation import likelihood
from pipeline.evaluation.kept import kept
from pipeline.nets.generator import decoder
from pipeline.nets.text import SentenceDecoder
from pipeline.recipe import Recipe
from pipeline.rng import generator, seeded
from pipeline.weights import Nets, device_of

WIDTH, DROPOUT, RATE, BATCH = 128, 0.4, 4e-3, 50
EPOCHS, PATIENCE = 40, 3
"""Passes over the sentences, at most, and how many in a row may bring no better validation."""
VALIDATION = 10
"""One sentence in so many, drawn at random, tells when to stop, and is not learned from."""
CHAINS, TEMPERATURES, ITEMS = 4, 50, 200
"""What the likelihood is estimated with: chains a sentence, temperatures, and sentences at most."""


def language_model(x: Int64[Tensor, "n longest"], spec: Spec, device: torch.device | str = "cpu") -> SentenceDecoder:
    """A language model of sentences: a decoder that is told nothing, trained until validation gets no better.

    Args:
        x: two sentences or more, of which a tenth is for validation.
        spec: of the data, for the number of words and the longest sentence.
        device: where it learns and stays.
    """
    net = _untrained(spec, device)
    _train(net, x)
    return net.eval().requires_grad_(False)


def of_real(data: Dataset, device: torch.device | str = "cpu") -> SentenceDecoder:
    """The language model of a data set's sentences, trained once and then taken from the cache folder."""
    net = _untrained(data.spec, device)
    kept("language-models", data, net, lambda: _train(net, data.batch(np.arange(data.size))["x"]))
    return net.eval().requires_grad_(False)


def _untrained(spec: Spec, device: torch.device | str) -> SentenceDecoder:
    with seeded(0):
        return SentenceDecoder(1, spec, WIDTH, DROPOUT).to(device)


def _train(net: SentenceDecoder, x: Int64[Tensor, "n longest"]) -> None:
    rng, device = generator(0), net.bias.device
    validation, x = x[torch.randperm(len(x), generator=rng)].tensor_split([-(-len(x) // VALIDATION)])
    seen = torch.bincount(x.flatten(), minlength=len(net.bias) + 1)[1:].float() + 1
    with torch.no_grad():  # from its own sentences alone: a model of what is drawn is told nothing of the real ones
        net.bias.copy_((seen / seen.sum()).log())
    optimizer, best, rest, state = torch.optim.Adam(net.parameters(), RATE), float("inf"), PATIENCE, net.state_dict()
    with seeded(0, device):
        for _ in range(EPOCHS):
            net.train()
            for part in torch.randperm(len(x), generator=rng).split(BATCH):
                items = _batch(x[part], device)
                optimizer.zero_grad()
                (_nats(net, items).sum() / items["length"].sum()).backward()
                optimizer.step()
            now = perplexity(net, validation)
            rest = PATIENCE if now < best else rest - 1
            if now < best:
                best, state = now, {name: t.clone() for name, t in net.state_dict().items()}
            if not rest:
                break
    net.load_state_dict(state)


@torch.no_grad()
def perplexity(net: SentenceDecoder, x: Int64[Tensor, "n longest"]) -> float:
    """Exp of the mean nats a word of sentences under a language model, which is left in eval mode."""
    net.eval()
    device, nats, words = net.bias.device, 0.0, 0
    for part in x.split(500):
        items = _batch(part, device)
        nats, words = nats + float(_nats(net, items).double().sum()), words + int(items["length"].sum())
    return float(np.exp(nats / words))


def of_samples(data: Dataset, drawn: Mapping[str, Tensor], device: torch.device | str = "cpu") -> dict[str, float]:
    """`fppl` of `short_run` samples, `fppl_<name>` of others; where sentences are held back also `rppl`, `fppl_floor`.

    The floor is the perplexity of the held back under the language model of the real, so that it is RPPL's floor as
    well if as many sentences are drawn as are learned from; more are not used for RPPL, and with fewer it is higher.
    """
    held_back = data.test.batch(np.arange(data.test.size))["x"]
    net, found = of_real(data, device), {}
    for what, x in drawn.items():
        if what == "short_run" or not torch.equal(x, drawn["short_run"]):  # a chain of no steps ends where it starts
            found[f"fppl_{what}".removesuffix("_short_run")] = perplexity(net, x)
            if len(held_back):
                other = language_model(x[: data.size], data.spec, device)
                found[f"rppl_{what}".removesuffix("_short_run")] = perplexity(other, held_back)
    return found | ({"fppl_floor": perplexity(net, held_back)} if len(held_back) else {})


def nll(recipe: Recipe, nets: Nets, data: Dataset) -> dict[str, float]:
    """`nll`, the mean of -log p(x) in nats a sentence, over the first 200 sentences, by annealed importance sampling.

    `nll_error` is the standard error of the estimate alone (that of the choice of sentences is larger, but is the same
    for all models), `nll_chains` the effective number of the 4 chains of a sentence.
    """
    device = device_of(nets)
    items, rng = data.batch(np.arange(min(ITEMS, data.size)), device), generator(0, device)
    prior = recipe.target(recipe.model, nets, None)
    latent = recipe.start(recipe.model, 1, rng, nets, {}).shape[1]
    found = likelihood.marginal(prior, decoder(nets), items, 1.0, latent, CHAINS, TEMPERATURES, rng)
    error = (1 / found.ess - 1 / CHAINS).clamp(min=0).sum().sqrt() / len(found.ess)
    return {"nll": -float(found.log_ratio.mean()), "nll_error": float(error), "nll_chains": float(found.ess.mean())}


def _nats(net: SentenceDecoder, items: Batch) -> Tensor:
    return net.loss(torch.zeros(len(items["x"]), 1, device=items["x"].device), items, 1.0)


def _batch(x: Tensor, device: torch.device | str) -> Batch:
    return {"x": x.to(device), "length": (x > 0).sum(1).to(device)}
