"""Cooperative Learning of Energy-Based Model and Latent Variable Model via MCMC Teaching.

Jianwen Xie, Yang Lu, Ruiqi Gao, Ying Nian Wu. AAAI 2018; at length, with Song-Chun Zhu, arXiv:1609.09408. Algorithm
CoopNets; reviewed in 1911.11374, part (a).

A generator proposes x = g(z), z ~ N(0, I). Langevin steps under the energy U revise the proposals. The energy learns
from data against the revised, as in contrastive divergence; the generator learns to map each z to what became of its
own proposal (MCMC teaching). So it accumulates what the chains have done, and these may stay short.

Deviations from the paper:
1. U has no Gaussian reference: p(x) ~ exp(-U(x)), where the paper's is tilted from N(0, s^2 I).
2. Drift and noise of the revision are settings of their own, and the data have noise; the paper's drift is s^2/2.
3. No batch normalisation, which would couple the items of a lane.
4. Proposals are g(z) without the observation noise sigma, as in the published code.
5. Both learning rates may fall as 1 / update, and the data noise may keep up with the chains' steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian, tilt
from pipeline.errors import InputError
from pipeline.nets.conv import build_energy
from pipeline.nets.generator import ReconstructionEnergy, build_decoder, decoder_of
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, ChainSettings, InitialStates, LossesAndMetrics, Recipe
from pipeline.rng import standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class Cooperative(Recipe):
    """An energy and a generator that learn from each other.

    >>> recipe = Cooperative(langevin=Langevin(10, drift=1.0, noise=0.01), inference_steps=5)
    >>> recipe.chains["model"].count, sorted(recipe.nets(Spec("vector", (2,), 0)))
    (100, ['energy', 'generator'])
    """

    langevin: Langevin = Langevin(steps=10, drift=1.0, noise=0.01)
    """Revision of the proposals (l_D steps)."""
    latent_dim: PositiveInt = 16
    """Dimension of z."""
    sigma: Positive = 0.3
    """Standard deviation of the revised about the generator's output, in units of the data's [-1, 1]."""
    inference_steps: Count = 0
    """Langevin steps from its own z, of the posterior given the revised, before the generator learns (l_G); 0: z is
    kept. The learner makes them; they are not among a run's gradient evaluations."""
    inference_step_size: Positive = 0.1
    """Step size of these: drift s^2/2, noise s."""
    batch_size: PositiveInt = 100
    """Data items and chains per update, over all lanes."""
    data_noise: NonNegative = 0.03
    """Standard deviation of the noise added to the data, in units of the data's [-1, 1]."""
    noise_per_step: NonNegative = 0.0
    """Least standard deviation of that noise, in units of the chains' mean step per coordinate; 0: it is constant."""
    energy_lr: NonNegative = 1e-4
    """Learning rate of the energy."""
    generator_lr: NonNegative = 1e-4
    """Learning rate of the generator."""
    anneal: Count = 0
    """Update from which both fall, by the factor anneal / update; 0: they are constant."""
    architecture: Literal["conv", "mlp"] = "conv"
    """Generator of images: transposed convolutions, or two hidden layers. Vectors have the latter."""
    width: PositiveInt = 64
    """Channels of the energy's first layer, or units of its MLP's three layers."""
    generator_width: PositiveInt = 64
    """Channels before the generator's last convolution, doubled at each one towards z; or units of an MLP's layers."""
    leaky_slope: NonNegative = 0.2
    """Slope of LeakyReLU below 0."""

    data_kinds = frozenset({"image", "vector"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.langevin.steps:
            raise InputError("the generator learns from what the chains change", "steps", 0)

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain, the revision, which starts from new proposals at every update."""
        return {"model": ChainSettings(self.batch_size)}

    def nets(self, spec: Spec) -> Nets:
        """The energy U and the generator g."""
        generator = build_decoder(self.architecture, self.latent_dim, spec, self.generator_width, self.leaky_slope)
        return {"energy": build_energy(spec, self.width, self.leaky_slope), "generator": generator}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with betas (.5, .999) (code)."""
        rates = {"energy": self.energy_lr, "generator": self.generator_lr}
        return {name: Adam(nets[name].parameters(), rate, betas=(0.5, 0.999)) for name, rate in rates.items()}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """Annealed alike."""
        return dict.fromkeys(("energy", "generator"), min(1.0, self.anneal / max(update, 1)) if self.anneal else 1.0)

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """The revision; its steps are part of the model."""
        return self.langevin

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> InitialStates:
        """Proposals g(z), which carry their z (step G0)."""
        z = standard_normal((n, self.latent_dim), rng)
        return InitialStates(decoder_of(nets).sample(z, rng), {"z": z})

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """U (step D1)."""
        return nets["energy"]

    def energy(self, nets: Nets) -> Energy:
        """U."""
        return nets["energy"]

    def infer(self, nets: Nets, z: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """z after the inference steps given x (step G1); z itself where there are none."""
        if not self.inference_steps:
            return z
        posterior = tilt(ReconstructionEnergy({"x": x}, decoder_of(nets), self.sigma), gaussian())
        return Langevin.textbook(self.inference_steps, self.inference_step_size)(posterior, z, rng)[0]

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """Steps D2, U of data minus U of the revised, and G2, |revised - g(z)|^2 / (2 sigma^2)."""
        x, (revised, stats, carried) = batch["data"]["x"], chains["model"]
        step = self.langevin.mean_step(stats.grad_norm, x[0].numel())
        x = x + (self.noise_per_step * step).clamp(min=self.data_noise) * standard_normal(tuple(x.shape), rng)
        data, model = nets["energy"](x).mean(), nets["energy"](revised).mean()
        z, items = self.infer(nets, carried["z"], revised, rng), {"x": revised}
        loss = decoder_of(nets).loss(z, items, self.sigma)
        metrics = {name: value.mean() for name, value in decoder_of(nets).metrics(loss, items, self.sigma).items()}
        energies = {"energy/gap": data - model, "energy/data": data, "energy/model": model}
        return {"energy": data - model, "generator": loss.mean()}, {**energies, **metrics}
