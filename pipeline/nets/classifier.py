"""Classifiers whose weights are another network's output (1905.02898), and the rescalings that leave them as they are.

A classifier is a module that is called with weights w (n, p), one row per member: the parameters of its layers, in the
order of `named_parameters`. Its activations, pooling and sums commute with positive factors. So a hidden unit's weights
and bias can be divided by a factor, and the weights that read it multiplied by the same, without any change of logits.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import avg_pool2d, leaky_relu, pad

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.settings import PositiveInt, Settings

SLOPE = 0.05
"""Of LeakyReLU below 0 (code)."""
RESNET_CHANNELS = (16, 32, 64)
"""Channels of ResNet-32 by stage; the side of the image halves between stages."""
RESNET_BLOCKS = 5
"""Blocks per stage: with two layers each, stem and head, 32 layers."""

Members = Float[Tensor, "n p"]
"""Weights of n classifiers, a row each."""


@dataclass(frozen=True)
class ClassifierSettings(Settings):
    """The architecture of a classifier."""

    architecture: Literal["chain", "resnet32"] = "chain"
    """Of the classifiers: convolutions and fully connected layers, or ResNet-32."""
    channels: tuple[PositiveInt, ...] = ()
    """Filters of the chain's 5x5 convolutions, each followed by pooling."""
    widths: tuple[PositiveInt, ...] = (8,)
    """Units of the chain's fully connected hidden layers."""


class Rescaling(NamedTuple):
    """Units whose scale the layers that read them undo."""

    layer: str
    """The first layer that computes the units: its rows fix their scale."""
    readers: tuple[str, ...]
    """The layers whose inputs the units are."""
    first: int = 0
    """The first of the units; channels of a residual stream begin at different depths."""
    writers: tuple[str, ...] = ()
    """Further layers that add to the units."""


class Classifier(nn.Module):
    """Layers of weights and biases, and the symmetries among them; the last is called `head`."""

    rescalings: tuple[Rescaling, ...]
    """In the order of the layers."""

    @property
    def layers(self) -> dict[str, nn.Linear | nn.Conv2d]:
        """The layers that have weights, by name, from the input on."""
        return {name: one for name, one in self.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)}

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.parameters())


class ChainClassifier(Classifier):
    """Convolutions of side 5, each with max pooling over 2x2, then fully connected layers.

    With channels (32, 16) and widths (8,) it is the classifier of MNIST in the paper's code, of 20,018 weights.
    """

    def __init__(self, spec: Spec, channels: tuple[int, ...], widths: tuple[int, ...]):
        super().__init__()
        shape, names = spec.shape if channels else (spec.size,), list[str]()
        if channels and (len(shape) != 3 or min(shape[1:]) < 2 ** len(channels)):
            raise InputError(f"data of shape {shape} are too small to pool so often", "channels", channels)
        for i, outputs in enumerate(channels):
            names.append(f"conv{i}")
            self.add_module(names[-1], nn.Conv2d(shape[0], outputs, 5, padding=2))
            shape = (outputs, shape[1] // 2, shape[2] // 2)
        inputs = math.prod(shape)
        for i, outputs in enumerate(widths):
            names.append(f"fc{i}")
            self.add_module(names[-1], nn.Linear(inputs, outputs))
            inputs = outputs
        self.head = nn.Linear(inputs, spec.num_classes)
        names.append("head")
        self.rescalings = tuple(Rescaling(a, (b,)) for a, b in pairwise(names))

    def forward(self, x: Float[Tensor, "k *d"]) -> Float[Tensor, "k classes"]:
        """Logits."""
        for layer in self.layers.values():
            if isinstance(layer, nn.Conv2d):
                x = nn.functional.max_pool2d(leaky_relu(layer(x), SLOPE), 2)
            else:
                x = layer(x.flatten(1))
                x = x if layer is self.head else leaky_relu(x, SLOPE)
        return x


class ResNetClassifier(Classifier):
    """ResNet-32 without normalisation layers, whose branches are divided by the root of their number instead.

    A shortcut between stages takes the mean over 2x2 pixels and adds channels of zeros.
    """

    def __init__(self, spec: Spec):
        super().__init__()
        if spec.kind != "image" or min(spec.shape[1:]) < 4:
            raise InputError("needs images of 4x4 or more", "architecture", "resnet32")
        inputs = RESNET_CHANNELS[0]
        self.stem, self.names = nn.Conv2d(spec.shape[0], inputs, 3, padding=1), list[str]()
        for stage, outputs in enumerate(RESNET_CHANNELS):
            for block in range(RESNET_BLOCKS):
                name, stride = f"block{stage}_{block}", 2 if stage and not block else 1
                self.add_module(f"{name}_in", nn.Conv2d(inputs, outputs, 3, stride, padding=1))
                self.add_module(f"{name}_out", nn.Conv2d(outputs, outputs, 3, padding=1))
                self.names.append(name)
                inputs = outputs
        self.head = nn.Linear(inputs, spec.num_classes)
        self.rescalings = tuple(self._rescalings())

    def _rescalings(self) -> list[Rescaling]:
        """The stem's channels, and by block its inner channels and the channels that it adds to the stream."""
        result, channels = [self._stream("stem", 0, 0)], RESNET_CHANNELS[0]
        for i, name in enumerate(self.names):
            result.append(Rescaling(f"{name}_in", (f"{name}_out",)))
            if (outputs := self.layers[f"{name}_out"].weight.shape[0]) > channels:
                result.append(self._stream(f"{name}_out", i + 1, channels))
                channels = outputs
        return result

    def _stream(self, layer: str, begin: int, first: int) -> Rescaling:
        later = self.names[begin:]
        return Rescaling(layer, (*(f"{n}_in" for n in later), "head"), first, tuple(f"{n}_out" for n in later))

    def forward(self, x: Float[Tensor, "k c h w"]) -> Float[Tensor, "k classes"]:
        """Logits."""
        layers, factor = self.layers, len(self.names) ** -0.5
        x = leaky_relu(self.stem(x), SLOPE)
        for name in self.names:
            branch = layers[f"{name}_out"](leaky_relu(layers[f"{name}_in"](x), SLOPE))
            if branch.shape[1] > x.shape[1]:
                x = pad(avg_pool2d(x, 2, ceil_mode=True), (0, 0, 0, 0, 0, branch.shape[1] - x.shape[1]))
            x = leaky_relu(x + factor * branch, SLOPE)
        return self.head(x.mean((2, 3)))


def build_classifier(settings: ClassifierSettings, spec: Spec) -> Classifier:
    """A classifier without weights of its own (they are on the device `meta`).

    Raises:
        InputError: the data have fewer than two classes, or another shape than the architecture needs.

    >>> build_classifier(ClassifierSettings(widths=(8,)), Spec("image", (1, 8, 8), 10)).size
    610
    """
    if spec.num_classes < 2:
        raise InputError("a classifier needs labels of two classes or more", "data")
    with torch.device("meta"):
        if settings.architecture == "resnet32":
            return ResNetClassifier(spec)
        return ChainClassifier(spec, settings.channels, settings.widths)


def to_layers(net: Classifier, w: Members) -> dict[str, Tensor]:
    """The weights of n classifiers as (n, *shape) by the names of parameters; views."""
    named = dict(net.named_parameters())
    parts = w.split([p.numel() for p in named.values()], 1)
    return {name: part.unflatten(1, p.shape) for (name, p), part in zip(named.items(), parts, strict=True)}


def to_members(layers: dict[str, Tensor]) -> Members:
    """The inverse of `to_layers`."""
    return torch.cat([one.flatten(1) for one in layers.values()], 1)


def member_logits(net: Classifier, w: Members, x: Tensor, own: bool = False) -> Float[Tensor, "n k classes"]:
    """Logits of k items for each of n classifiers.

    Args:
        net: their architecture.
        w: their weights.
        x: (k, *d) items; or, if each classifier has its `own`, (n, k, *d).
        own: whether it has.
    """
    return vmap(lambda one, items: functional_call(net, one, (items,)), in_dims=(0, 0 if own else None))(
        to_layers(net, w), x
    )
