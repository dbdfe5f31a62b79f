"""Perplexities of and by sentences that a model has drawn (2006.08205, section 4.2), and their likelihood.

FPPL is the perplexity of drawn sentences under a language model of the real ones: high where what is drawn is no
language. RPPL is the perplexity of real sentences held back under a language model of the drawn ones: high where some
of the language is never drawn. Both language models are this project's own: one small recurrent network, trained with a
fixed seed. So perplexities compare models on the same data, and are not those of other papers.

Words are those of the data's vocabulary; every other word is the one word "unknown", for which a model pays as for any
other. The end of a sentence counts as a word, as in the length of sentences.
"""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from pipeline.batch import Batch, Spec
from pipeline.data.dataset import Dataset
from pipeline.evaluation.judges.cached import load_or_train
from pipeline.nets.text import SentenceDecoder
from pipeline.rng import generator, seeded

WIDTH, DROPOUT, RATE, BATCH = 128, 0.4, 4e-3, 50
EPOCHS, PATIENCE = 40, 3
"""Passes over the sentences, at most, and how many in a row may bring no better validation."""
VALIDATION = 10
"""One sentence in so many, drawn at random, tells when to stop, and is not learned from."""


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


def real_language_model(data: Dataset, device: torch.device | str = "cpu") -> SentenceDecoder:
    """The language model of a data set's sentences, trained once and then taken from the cache folder."""
    net = _untrained(data.spec, device)
    load_or_train("language-models", data, net, lambda: _train(net, data.batch(np.arange(data.size))["x"]))
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


def _nats(net: SentenceDecoder, items: Batch) -> Tensor:
    return net.loss(torch.zeros(len(items["x"]), 1, device=items["x"].device), items, 1.0)


def _batch(x: Tensor, device: torch.device | str) -> Batch:
    return {"x": x.to(device), "length": (x > 0).sum(1).to(device)}
