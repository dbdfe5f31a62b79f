"""A language model of sentences: one small recurrent network, trained with a fixed seed, and its perplexity.

Perplexities under it compare models trained on the same data; they are not those of other papers. Words are those of
the data's vocabulary; every other word is the one word "unknown", which costs a model as much as any other. The end of
a sentence counts as a word, also in the length of a sentence.
"""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from pipeline.batch import Batch, Spec
from pipeline.data.dataset import Dataset
from pipeline.evaluation.judges.cached import load_or_train
from pipeline.nets.text import SentenceDecoder
from pipeline.progress import track
from pipeline.rng import generator, seeded

WIDTH, DROPOUT, LEARNING_RATE, BATCH_SIZE = 128, 0.4, 4e-3, 50
EPOCHS = 40
"""Passes over the sentences, at most."""
PATIENCE = 3
"""Consecutive passes without a better validation after which training stops."""
FOLDS = 10
"""Validation takes one of so many parts of the sentences, drawn at random; training uses the others."""


def language_model(x: Int64[Tensor, "n longest"], spec: Spec, device: torch.device | str = "cpu") -> SentenceDecoder:
    """A language model of sentences: a decoder without latent information, trained until validation stops improving.

    It is trained on the CPU, whatever the device: so a perplexity does not depend on where it was measured.

    Args:
        x: two sentences or more; a tenth of them is for validation.
        spec: of the data; it has the number of words and the longest sentence.
        device: of the trained network.
    """
    net = _untrained(spec)
    _train(net, x)
    return net.eval().requires_grad_(False).to(device)


def real_language_model(data: Dataset, device: torch.device | str = "cpu") -> SentenceDecoder:
    """The same of a data set's sentences, trained once and then taken from the cache folder."""
    net = _untrained(data.spec)
    load_or_train("language-models", data, net, lambda: _train(net, data.batch(np.arange(data.size))["x"]))
    return net.eval().requires_grad_(False).to(device)


@torch.no_grad()
def perplexity(net: SentenceDecoder, x: Int64[Tensor, "n longest"]) -> float:
    """Exp of the mean nats per word of sentences under a language model, which is left in eval mode."""
    net.eval()
    device, nats, words = net.bias.device, 0.0, 0
    for part in x.split(500):
        items = _batch(part, device)
        nats, words = nats + float(_nats(net, items).double().sum()), words + int(items["length"].sum())
    return float(np.exp(nats / words))


def _untrained(spec: Spec) -> SentenceDecoder:
    with seeded(0):
        return SentenceDecoder(1, spec, WIDTH, DROPOUT)


def _train(net: SentenceDecoder, x: Int64[Tensor, "n longest"]) -> None:
    rng = generator(0)
    validation, x = x[torch.randperm(len(x), generator=rng)].tensor_split([-(-len(x) // FOLDS)])
    counts = torch.bincount(x.flatten(), minlength=len(net.bias) + 1)[1:].float() + 1
    with torch.no_grad():  # from these sentences alone: a model of samples must know nothing of real sentences
        net.bias.copy_((counts / counts.sum()).log())
    best, patience, state = float("inf"), PATIENCE, net.state_dict()
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    with seeded(0):
        for _ in track(range(EPOCHS), EPOCHS, "training the language model", "epoch"):
            net.train()
            for part in torch.randperm(len(x), generator=rng).split(BATCH_SIZE):
                items = _batch(x[part])
                optimizer.zero_grad()
                (_nats(net, items).sum() / items["length"].sum()).backward()
                optimizer.step()
            current = perplexity(net, validation)
            patience = PATIENCE if current < best else patience - 1
            if current < best:
                best, state = current, {name: t.clone() for name, t in net.state_dict().items()}
            if not patience:
                break
    net.load_state_dict(state)


def _nats(net: SentenceDecoder, items: Batch) -> Tensor:
    return net.loss(torch.zeros(len(items["x"]), 1, device=items["x"].device), items, 1.0)


def _batch(x: Tensor, device: torch.device | str = "cpu") -> Batch:
    return {"x": x.to(device), "length": (x > 0).sum(1).to(device)}
