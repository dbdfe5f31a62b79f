"""Alternating back-propagation, the core of Representation Learning: A Statistical Perspective.

Jianwen Xie, Ruiqi Gao, Erik Nijkamp, Song-Chun Zhu, Ying Nian Wu. 2019, arXiv:1911.11374, part (a).

A generator x = g(z) + sigma xi with z ~ N(0, I), without an encoder. Each datum has its own z, drawn from N(0, I) when
it is first in a batch. Whenever it is in the batch, Langevin steps of the posterior continue from its z (inferential
back-propagation), and the generator then learns to reconstruct the data from these z (learning back-propagation).

Deviations from the paper:
1. Adam in place of gradient descent.
2. The generator of images consists of transposed convolutions for any size, or is an MLP; that of vectors is an MLP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch.optim import Adam, Optimizer

from pipeline.batch import Spec
from pipeline.latent import ALL_KINDS, LatentRecipe
from pipeline.nets.generator import build_decoder, decoder_of
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, ChainSettings, LossesAndMetrics
from pipeline.samplers.langevin import Langevin
from pipeline.settings import NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class AlternatingBackprop(LatentRecipe):
    """A generator learned with one persistent latent vector per datum.

    >>> recipe = AlternatingBackprop(steps=30)
    >>> recipe.sampler("posterior", {}, 0).steps, recipe.chains["posterior"].bank
    (30, 'datum')
    """

    latent_dim: PositiveInt = 16
    """Dimension of z."""
    steps: PositiveInt = 20
    """Langevin steps of the posterior's chains per update (l)."""
    step_size: Positive = 0.1
    """Step size of the posterior's chains (s): drift s^2/2, noise s."""
    sigma: Positive = 0.3
    """Standard deviation of the data about the generator's output, in units of the data's [-1, 1]."""
    batch_size: PositiveInt = 100
    """Data items and chains per update, over all lanes."""
    lr: NonNegative = 1e-3
    """Learning rate of Adam."""
    architecture: Literal["conv", "mlp"] = "mlp"
    """Generator of images: transposed convolutions, or two hidden layers of `width` units. Vectors have the latter."""
    width: PositiveInt = 256
    """Channels before the generator's last convolution, doubled at each one towards z; or units of an MLP's layers."""
    leaky_slope: NonNegative = 0.2
    """Slope of LeakyReLU below 0."""

    data_kinds = ALL_KINDS

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain per datum, which continues from epoch to epoch."""
        return {"posterior": ChainSettings(self.batch_size, context="data", bank="datum")}

    def nets(self, spec: Spec) -> Nets:
        """The generator g."""
        return {"generator": build_decoder(self.architecture, self.latent_dim, spec, self.width, self.leaky_slope)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with betas (.5, .999)."""
        return {"generator": Adam(nets["generator"].parameters(), self.lr, betas=(0.5, 0.999))}

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """Posterior: l steps of size s. Prior: no steps."""
        return Langevin.textbook(self.steps if chain == "posterior" else 0, self.step_size)

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """The reconstruction at posterior states."""
        items = batch["data"]
        loss = decoder_of(nets).loss(chains["posterior"].x, items, self.sigma)
        metrics = decoder_of(nets).metrics(loss, items, self.sigma)
        return {"generator": loss.mean()}, {name: value.mean() for name, value in metrics.items()}
