"""Learning Latent Space Energy-Based Prior Model.

Bo Pang, Tian Han, Erik Nijkamp, Song-Chun Zhu, Ying Nian Wu. NeurIPS 2020, arXiv:2006.08205. Algorithm 1.

A generator x = g(z) + sigma xi whose prior is an exponential tilt of N(0, I): p(z) ~ exp(-f(z) - |z|^2/2). Short
Langevin chains from N(0, I), at temperature 1, sample the prior and the posterior of a batch. The energy falls on
posterior states and rises on prior states; the generator reconstructs. The paper writes f for our -f.

Deviations from the paper:
1. The energy's activation is LeakyReLU(0.2), as in the paper's tables; its code has GELU.
2. Learning rates decay at each update, not at each epoch.
3. The generator of images consists of transposed convolutions for any size, or is an MLP; that of vectors is an MLP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian, tilt
from pipeline.latent import ALL_KINDS, LatentRecipe
from pipeline.nets.generator import ReconstructionEnergy, build_decoder, decoder_of
from pipeline.nets.mlp import MLPEnergy
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, ChainSettings, LossesAndMetrics, Metrics
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, Decay, NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class LatentPrior(LatentRecipe):
    """The latent-space energy-based prior (LEBM).

    >>> recipe = LatentPrior(prior_steps=40, posterior_steps=10)
    >>> recipe.sampler("prior", {}, 0).steps, recipe.sampler("posterior", {}, 0).steps
    (40, 10)
    """

    latent_dim: PositiveInt = 100
    """Dimension of z."""
    prior_steps: Count = 60
    """Langevin steps of the prior's chains (K0)."""
    prior_step_size: Positive = 0.4
    """Step size of the prior's chains (s0): drift s0^2/2, noise s0."""
    posterior_steps: PositiveInt = 20
    """Langevin steps of the posterior's chains (K1)."""
    posterior_step_size: Positive = 0.1
    """Step size of the posterior's chains (s1); stable while s1 / sigma is small beside the generator's slope."""
    inference_steps: Count = 0
    """Noiseless steps of size s1 that infer z of held-out or completed items; 0: chains as in learning."""
    sigma: Positive = 0.3
    """Standard deviation of the data about the generator's output, in units of the data's [-1, 1]."""
    batch_size: PositiveInt = 100
    """Data items, posterior chains and prior chains per update, over all lanes."""
    energy_lr: NonNegative = 2e-5
    """Learning rate of the prior's energy."""
    generator_lr: NonNegative = 1e-4
    """Learning rate of the generator."""
    lr_decay: Decay = 1.0
    """Factor of both learning rates at each update; 1: they are constant."""
    energy_width: PositiveInt = 200
    """Units of the energy's two hidden layers."""
    architecture: Literal["conv", "mlp"] = "conv"
    """Generator of images: transposed convolutions, or two hidden layers of `width` units. Vectors have the latter."""
    width: PositiveInt = 64
    """Channels before the generator's last convolution (ngf), doubled at each one towards z; or units of MLP layers."""
    leaky_slope: NonNegative = 0.2
    """Slope of LeakyReLU below 0, in both networks."""

    data_kinds = ALL_KINDS

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """Prior chains, and one posterior chain per datum; all start anew at every update."""
        return {"prior": ChainSettings(self.batch_size), "posterior": ChainSettings(self.batch_size, context="data")}

    def nets(self, spec: Spec) -> Nets:
        """The energy f of the prior (d-200-200-1), and the generator g."""
        energy = MLPEnergy(self.latent_dim, (self.energy_width, self.energy_width), self.leaky_slope)
        generator = build_decoder(self.architecture, self.latent_dim, spec, self.width, self.leaky_slope)
        return {"energy": energy, "generator": generator}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with betas (.5, .999) for both (appendix)."""
        rates = {"energy": self.energy_lr, "generator": self.generator_lr}
        return {name: Adam(nets[name].parameters(), rate, betas=(0.5, 0.999)) for name, rate in rates.items()}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """Exponential decay."""
        return dict.fromkeys(("energy", "generator"), self.lr_decay**update)

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """K0 steps of size s0 for the prior, K1 of size s1 for the posterior."""
        if chain == "prior":
            return Langevin.textbook(self.prior_steps, self.prior_step_size)
        return Langevin.textbook(self.posterior_steps, self.posterior_step_size)

    def inference_sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """As in learning, or `inference_steps` without noise."""
        learning = self.sampler(chain, nets, update)
        return replace(learning, steps=self.inference_steps, noise=0.0) if self.inference_steps else learning

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """Prior: f(z) + |z|^2/2. Posterior: |x - g(z)|^2 / (2 sigma^2) + f(z) + |z|^2/2 (eq. 8)."""
        prior = tilt(nets["energy"], gaussian())
        if context is None:
            return prior
        return tilt(ReconstructionEnergy(context, decoder_of(nets), self.sigma), prior)

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """At posterior states: the decoder's metrics; `energy`, -log p(x, z) without normalisers (section 4.4).

        Beside it `energy_prior`, its part f(z) + |z|^2/2, and of images `energy_unexplained`, the `mse` over the
        variance of the image's own pixels, which is no lower because there is little in an image.
        """
        items, z = batch["data"], chains["posterior"].x
        loss, prior = decoder_of(nets).loss(z, items, self.sigma), self.target("prior", nets, None)(z)
        metrics = decoder_of(nets).metrics(loss, items, self.sigma)
        if items["x"].dim() == 4:
            variance = items["x"].flatten(1).var(1, correction=0).clamp_min(1e-6)  # of one colour: 0
            metrics = {**metrics, "energy_unexplained": metrics["mse"] / variance}
        return {**metrics, "energy": loss + prior, "energy_prior": prior}

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """Energy: f(z+) - f(z-) (eq. 6). Generator: the reconstruction at z+ (eq. 7)."""
        items, z = batch["data"], chains["posterior"].x
        posterior, prior = nets["energy"](z).mean(), nets["energy"](chains["prior"].x).mean()
        loss = decoder_of(nets).loss(z, items, self.sigma)
        return {"energy": posterior - prior, "generator": loss.mean()}, {
            "energy/gap": posterior - prior,
            "energy/posterior": posterior,
            "energy/prior": prior,
            **{name: value.mean() for name, value in decoder_of(nets).metrics(loss, items, self.sigma).items()},
        }
