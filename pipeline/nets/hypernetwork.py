"""The hypernetwork of 1905.02898: noise -> codes of the classifier's units -> their weights."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.nets.classifier import SLOPE, Classifier, Members, member_logits, to_members
from pipeline.nets.mlp import MLP
from pipeline.nets.weights import Nets
from pipeline.settings import PositiveInt, Settings


@dataclass(frozen=True)
class HypernetworkSettings(Settings):
    """The sizes of a hypernetwork."""

    noise_dim: PositiveInt = 32
    """Dimension of z."""
    code_dim: PositiveInt = 15
    """Numbers in the code of a unit."""
    extractor_widths: tuple[PositiveInt, ...] = (100, 100)
    """Hidden layers of the network from z to codes."""
    generator_widths: tuple[PositiveInt, ...] = (60, 60)
    """Hidden layers of the networks from codes to weights."""


class Hypernetwork(nn.Module):
    """Noise z (n, d) -> weights (n, p) of n classifiers.

    An extractor makes a code for each hidden unit (or filter) and one for the whole last layer. One generator per
    layer, the same for all of its units, makes a unit's weights and bias of its code. The weights of a layer with
    fan-in f are the generator's output over sqrt(f). All layers preserve the scale of noise at first, so that the
    classifiers do, too: with far smaller weights the entropy, which does not depend on their scale, would keep them
    from learning.

    Args:
        classifier: whose weights are generated.
        settings: its sizes; `noise_dim` is d.
        shape: of one item of data.
    """

    center: Tensor
    """(*shape) subtracted from the data before they are classified."""
    classifier: Classifier
    """The architecture whose weights are generated."""

    def __init__(self, classifier: Classifier, settings: HypernetworkSettings, shape: tuple[int, ...]):
        super().__init__()
        self.code_dim = code_dim = settings.code_dim
        self.__dict__["classifier"] = classifier  # not a submodule: it has no weights
        self.shapes = {name: tuple(layer.weight.shape) for name, layer in classifier.layers.items()}
        self.codes = {name: 1 if name == "head" else shape[0] for name, shape in self.shapes.items()}
        self.extractor = MLP(settings.noise_dim, settings.extractor_widths, code_dim * sum(self.codes.values()), SLOPE)
        sizes = {name: shape[0] // self.codes[name] * (math.prod(shape[1:]) + 1) for name, shape in self.shapes.items()}
        self.generators = nn.ModuleDict(
            {name: MLP(code_dim, settings.generator_widths, size, SLOPE) for name, size in sizes.items()}
        )
        self.register_buffer("center", torch.zeros(shape))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, SLOPE)
                nn.init.zeros_(layer.bias)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.shapes["head"][0]

    def forward(self, z: Float[Tensor, "n d"]) -> Members:
        """The weights of n classifiers, in the order of the classifier's parameters."""
        codes = self.extractor(z).unflatten(1, (-1, self.code_dim)).split(list(self.codes.values()), 1)
        layers = dict[str, Tensor]()
        for (name, shape), own in zip(self.shapes.items(), codes, strict=True):
            rows = self.generators[name](own).view(len(z), shape[0], -1) / math.prod(shape[1:]) ** 0.5
            layers[f"{name}.weight"], layers[f"{name}.bias"] = rows[:, :, :-1].unflatten(2, shape[1:]), rows[:, :, -1]
        return to_members(layers)

    def logits(self, w: Members, x: Tensor, own: bool = False) -> Float[Tensor, "n k classes"]:
        """Logits of k items of data for each of n classifiers, as `member_logits`."""
        return member_logits(self.classifier, w, x - self.center, own)


def hypernetwork_of(nets: Nets) -> Hypernetwork:
    """The network `hypernetwork` of a recipe."""
    return cast(Hypernetwork, nets["hypernetwork"])
