"""Alternating back-propagation, the core of Representation Learning: A Statistical Perspective.

Jianwen Xie, Ruiqi Gao, Erik Nijkamp, Song-Chun Zhu, Ying Nian Wu. 2019, arXiv:1911.11374, part (a).

A generator x = g(z) + sigma xi with z ~ N(0, I) has no encoder: every datum keeps its own z, which goes on by Langevin
steps of the posterior whenever its datum is in the batch (inferential back-propagation), and the generator then
reconstructs the data from these z (learning back-propagation).

Deviations from the paper:
1. Adam in place of gradient descent.
2. The generator of images has transposed convolutions for any size, or is an MLP; vectors have an MLP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian, tilt
from pipeline.nets.generator import build_decoder, decoder_of, reconstruction_energy
from pipeline.nets.weights import Nets
from pipeline.recipe import ChainSettings, ChainStates, LatentLikelihood, Recipe
from pipeline.rng import standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class AlternatingBackprop(Recipe):
    """A generator learned with one persistent latent vector a datum."""

    latent_dim: PositiveInt = 16
    """Dimension of z."""
    steps: PositiveInt = 20
    """Langevin steps of the posterior's chains an update (l)."""
    step_size: Positive = 0.1
    """Their step size (s): drift s^2/2, noise s."""
    sigma: Positive = 0.3
    """Standard deviation of the data about the generator's output, in units of the data's [-1, 1]."""
    batch_size: PositiveInt = 100
    """Data items and chains an update, over all lanes."""
    lr: NonNegative = 1e-3
    """Learning rate of Adam."""
    architecture: Literal["conv", "mlp"] = "mlp"
    """Generator of images: transposed convolutions, or two hidden layers of `width` units. Vectors have the latter."""
    width: PositiveInt = 256
    """Channels of the generator before its last layer, doubled towards z; units of an MLP's layers."""
    leaky_slope: NonNegative = 0.2
    """LeakyReLU's slope below 0."""

    @property
    def data_kinds(self) -> frozenset[str]:
        """All kinds."""
        return frozenset({"image", "vector", "counts", "text"})

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain a datum, which goes on from epoch to epoch."""
        return {"posterior": ChainSettings(self.batch_size, context="data", bank="datum")}

    @property
    def sample_chain(self) -> str:
        """Vectors of the prior, which no step moves."""
        return "prior"

    def nets(self, spec: Spec) -> Nets:
        """The generator."""
        return {"generator": build_decoder(self.architecture, self.latent_dim, spec, self.width, self.leaky_slope)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with betas (.5, .999)."""
        return {"generator": Adam(nets["generator"].parameters(), self.lr, betas=(0.5, 0.999))}

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """Posterior: l steps of s. Prior: none."""
        return Langevin.textbook(self.steps if chain == "posterior" else 0, self.step_size)

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """N(0, I); a datum's first time alone."""
        return standard_normal((n, self.latent_dim), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """|z|^2/2, and for the posterior |x - g(z)|^2 / (2 sigma^2) too."""
        if context is None:
            return gaussian()
        return tilt(reconstruction_energy(context, decoder_of(nets), self.sigma), gaussian())

    def likelihood(self, nets: Nets) -> LatentLikelihood:
        """The generator, with `sigma`."""
        return LatentLikelihood(decoder_of(nets), self.sigma)

    def item_metrics(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator
    ) -> dict[str, Tensor]:
        """At posterior states, started afresh: what the decoder tells, and `energy`: -log p(x, z) unnormalised."""
        items, z = batch["data"], chains["posterior"].x
        loss = decoder_of(nets).loss(z, items, self.sigma)
        return {**decoder_of(nets).metrics(loss, items, self.sigma), "energy": loss + gaussian()(z)}

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The reconstruction at the posterior's states."""
        items = batch["data"]
        loss = decoder_of(nets).loss(chains["posterior"].x, items, self.sigma)
        told = decoder_of(nets).metrics(loss, items, self.sigma)
        return {"generator": loss.mean()}, {name: value.mean() for name, value in told.items()}
