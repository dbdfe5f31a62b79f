"""Gauge fixing: of all weights that give the same classifier, one (1905.02898, section 3.2).

Distances between gauge-fixed weights do not depend on rescalings that leave the classifier as it is. Permutations of
hidden units are not fixed.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from pipeline.nets.classifier import Classifier, Members, to_layers, to_members

Gauge: TypeAlias = Literal["full", "paper", "none"]
"""paper: hidden units have weights and bias of mean square 1, and the last biases mean 0. full: also the last weights
have mean 0 over the classes, and the last layer has mean square 1."""


def fix_gauge(net: Classifier, w: Members, gauge: Gauge) -> Members:
    """The gauge-fixed weights of n classifiers.

    In the gauge `paper` the classifier's probabilities stay as they are. In the gauge `full` its logits, less their
    mean over the classes, are divided by a positive number: a classifier of the same decisions.

    Args:
        net: their architecture.
        w: their weights.
        gauge: what is fixed.
    """
    if gauge == "none":
        return w
    layers = dict(to_layers(net, w))
    for one in net.rescalings:
        writers, scale = (one.layer, *one.writers), _row_rms(layers, one.layer)[:, one.first :]
        channels = layers[f"{writers[-1]}.bias"].shape[1]
        for name in writers:
            _scale_rows(layers, name, one.first, 1 / scale)
        for name in one.readers:
            _scale_columns(layers, name, one.first, scale, channels)
    return to_members(_fix_head(layers, gauge))


def _fix_head(layers: dict[str, Tensor], gauge: Gauge) -> dict[str, Tensor]:
    weight, bias = layers["head.weight"], layers["head.bias"]
    bias = bias - bias.mean(1, keepdim=True)
    if gauge == "full":
        weight = weight - weight.mean(1, keepdim=True)
        count = weight[0].numel() + bias[0].numel()
        rms = ((weight.square().sum((1, 2)) + bias.square().sum(1)) / count).sqrt()
        weight, bias = weight / rms[:, None, None], bias / rms[:, None]
    return {**layers, "head.weight": weight, "head.bias": bias}


def _row_rms(layers: dict[str, Tensor], name: str) -> Tensor:
    """(n, units) root of the mean square of each unit's weights and bias."""
    weight, bias = layers[f"{name}.weight"].flatten(2), layers[f"{name}.bias"]
    return ((weight.square().sum(2) + bias.square()) / (weight.shape[2] + 1)).sqrt()


def _scale_rows(layers: dict[str, Tensor], name: str, first: int, factor: Tensor) -> None:
    """Multiply what a layer computes for its units from `first` on by factors (n, units)."""
    weight, bias = layers[f"{name}.weight"], layers[f"{name}.bias"]
    own = _spread(factor, bias.shape[1], first)
    layers[f"{name}.weight"] = (weight.flatten(2) * own[:, :, None]).view(weight.shape)
    layers[f"{name}.bias"] = bias * own


def _scale_columns(layers: dict[str, Tensor], name: str, first: int, factor: Tensor, channels: int) -> None:
    """Multiply the weights with which a layer reads units by factors (n, units).

    A fully connected layer may read all pixels of a unit, which then stand together.
    """
    weight = layers[f"{name}.weight"]
    by_unit = weight.flatten(3) if weight.dim() == 5 else weight.unflatten(2, (channels, -1))
    own = _spread(factor, by_unit.shape[2], first)
    layers[f"{name}.weight"] = (by_unit * own[:, None, :, None]).view(weight.shape)


def _spread(factor: Tensor, count: int, first: int) -> Tensor:
    """(n, count) factors of all units: 1 but for those from `first` on."""
    parts = factor.new_ones(len(factor), first), factor, factor.new_ones(len(factor), count - first - factor.shape[1])
    return torch.cat(parts, 1)
