"""Classifiers that learn their weights directly, many at once: what a hypernetwork's members stand beside."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.optim import Adam

from pipeline.nets.classifier import Classifier, Members, to_members
from pipeline.nets.hypernetwork import Hypernetwork
from pipeline.progress import track
from pipeline.rng import generator, standard_normal
from pipeline.settings import NonNegative, PositiveInt, Settings


@dataclass(frozen=True)
class DirectTraining(Settings):
    """How classifiers learn without a hypernetwork: Adam, whose learning rate falls to 0 along a cosine."""

    training_updates: PositiveInt = 4500
    """Updates of each classifier."""
    training_batch_size: PositiveInt = 64
    """Items per update of each classifier, drawn with replacement."""
    training_lr: NonNegative = 3e-3
    """Learning rate at the start."""


def initial_members(net: Classifier, n: int, rng: torch.Generator) -> Members:
    """Weights and biases of n classifiers from U(-1/sqrt(fan-in), 1/sqrt(fan-in)), as torch initialises layers."""
    layers = dict[str, Tensor]()
    for name, layer in net.layers.items():
        bound = layer.weight[0].numel() ** -0.5
        for kind, shape in (("weight", layer.weight.shape), ("bias", layer.weight.shape[:1])):
            uniform = torch.empty((n, *shape), device=rng.device).uniform_(-bound, bound, generator=rng)
            layers[f"{name}.{kind}"] = uniform
    return to_members(layers)


def train_directly(
    net: Hypernetwork,
    x: Tensor,
    target: Tensor,
    n: int,
    settings: DirectTraining,
    seed: int,
    label: str = "training classifiers",
    data_noise: float = 0.0,
) -> Members:
    """The weights of n classifiers that learn independently of each other; the last weights of each.

    Args:
        net: a hypernetwork, of which only the architecture of its classifiers and the data's centre are used.
        x: (k, *d) items.
        target: (k,) labels, or (k, classes) probabilities.
        n: number of classifiers.
        settings: how they learn.
        seed: of their first weights and batches.
        label: what a progress bar says.
        data_noise: standard deviation of the noise added to items.
    """
    rng = generator(seed, x.device)
    w = initial_members(net.classifier, n, rng).requires_grad_()
    p = target if target.ndim == 2 else one_hot(target, net.classes).to(x.dtype)
    optimizer = Adam([w], settings.training_lr)
    for update in track(range(settings.training_updates), settings.training_updates, label, "update"):
        optimizer.param_groups[0]["lr"] = (
            settings.training_lr * (1 + math.cos(math.pi * update / settings.training_updates)) / 2
        )
        index = torch.randint(len(x), (n, settings.training_batch_size), generator=rng, device=x.device)
        batch = x[index] + data_noise * standard_normal((n, settings.training_batch_size, *x.shape[1:]), rng)
        logits = net.logits(w, batch, own=True)
        loss = n * cross_entropy(logits.flatten(0, 1), p[index].flatten(0, 1))  # a sum over classifiers
        (w.grad,) = torch.autograd.grad(loss, w)
        optimizer.step()
    return w.detach()
