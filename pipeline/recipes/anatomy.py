"""On the Anatomy of MCMC-Based Maximum Likelihood Learning of Energy-Based Models.

Erik Nijkamp, Mitch Hill, Tian Han, Song-Chun Zhu, Ying Nian Wu. AAAI 2020, arXiv:1903.12370. Algorithm 1.

Noise, optimizer and the chains' starts decide whether learning ends in a density (convergent) or only in a sampler
(non-convergent). The network F moves chains with drift 1 and noise eps. The energy at temperature 1 is U = F 2/eps^2 =
F / T (appendix 3A), and the energy gap d = E_data U - E_chains U is logged on its scale. The learning rate of SGD is
multiplied by T, so that its step does not depend on eps.

Deviations from the paper:
1. A chain drawn from the bank starts anew with probability `restart_prob`; in the paper it never does (0).
2. Each epoch goes through the data in random order, without replacement; the paper draws each batch anew.
3. The data noise may keep up with the chains' steps (`noise_per_step`), so that learning does not run away.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.conv import ConvEnergy
from pipeline.nets.mlp import MLPEnergy
from pipeline.nets.nonlocal_conv import NonLocalEnergy
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, ChainSettings, LossesAndMetrics, Recipe
from pipeline.rng import initial_noise, standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, Decay, NonNegative, PositiveInt, Probability


@dataclass(frozen=True)
class Anatomy(Recipe):
    """Maximum-likelihood learning by MCMC, convergent or not.

    >>> recipe = Anatomy(langevin=Langevin(100, drift=1.0, noise=0.02), bank=10_000)
    >>> recipe.langevin.temperature, recipe.chains["model"].bank
    (0.0002, 10000)
    """

    langevin: Langevin = Langevin(steps=150, drift=1.0, noise=0.01)
    batch_size: PositiveInt = 100
    """Data items and chains per update, over all lanes."""
    start_from: Literal["uniform", "gaussian", "data"] = "uniform"
    """Where chains start: from U[-1, 1], from N(0, 1), or from the batch."""
    start_scale: NonNegative = 1.0
    """Factor of the noise that chains start from."""
    bank: Count = 0
    """Persistent chains, over all lanes; 0: every chain starts anew."""
    restart_prob: Probability = 0.0
    """Probability that a chain drawn from the bank starts anew."""
    data_noise: NonNegative = 0.03
    """Standard deviation of the noise added to the data, in the data's units; below the chains' noise, d diverges."""
    noise_per_step: NonNegative = 0.0
    """Least standard deviation of that noise, in units of the chains' mean step per coordinate; 0: it is constant."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """With adam, gradients outgrow the noise; with annealed sgd, chains can converge."""
    lr: NonNegative = 1e-4
    """Learning rate at the start."""
    final_lr: NonNegative = 0.0
    """Lower bound of the annealed learning rate."""
    lr_decay: Decay = 1.0
    """Factor of the learning rate at each update; 1: it is constant."""
    architecture: Literal["plain", "nonlocal"] = "plain"
    """Energy of images: the plain ConvNet, or the one with non-local blocks."""
    width: PositiveInt = 32
    """Channels of the ConvNet's first layer, or units of the MLP's first layer."""
    leaky_slope: NonNegative = 0.05
    """Slope of LeakyReLU below 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.langevin.steps:
            raise InputError("chains without steps are their own start", "steps", 0)
        if not 0 < self.langevin.temperature < math.inf:
            field = "drift" if self.langevin.temperature else "noise"
            why = "must be above 0: the energy is the network's over the temperature noise^2 / (2 drift)"
            raise InputError(why, field, getattr(self.langevin, field))

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain under the energy."""
        stream = "data" if self.start_from == "data" else None
        settings = ChainSettings(self.batch_size, bank=self.bank, restart_prob=self.restart_prob, starts_from=stream)
        return {"model": settings}

    def nets(self, spec: Spec) -> Nets:
        """F: a ConvNet for images, an MLP (w, 2w, 2w, 2w) for vectors (appendix, architectures)."""
        if spec.kind == "image":
            kind = NonLocalEnergy if self.architecture == "nonlocal" else ConvEnergy
            return {"energy": kind(spec.shape, self.width, self.leaky_slope)}
        widths = (self.width, 2 * self.width, 2 * self.width, 2 * self.width)
        return {"energy": MLPEnergy(spec.shape[0], widths, self.leaky_slope)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with its default betas, or SGD, whose learning rate is that of F."""
        parameters = nets["energy"].parameters()
        if self.optimizer == "adam":
            return {"energy": Adam(parameters, self.lr)}
        return {"energy": SGD(parameters, self.lr * self.langevin.temperature)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """Exponential decay to `final_lr`."""
        least = self.final_lr / self.lr if self.lr else 1.0
        return {"energy": max(self.lr_decay**update, min(least, 1.0))}

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """The same throughout."""
        return self.langevin

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """Noise, or the data of the batch."""
        if self.start_from == "data":
            assert context is not None
            return context["x"][:n]
        return self.start_scale * initial_noise(self.start_from, (n, *spec.shape), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """F, at the temperature T of the chains."""
        return nets["energy"]

    def energy(self, nets: Nets) -> Energy:
        """F."""
        return nets["energy"]

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """The energy gap d = U(x + sigma xi) - U(x_K) (eq. 6), with U = F / T."""
        x, temperature = batch["data"]["x"], self.langevin.temperature
        step = self.langevin.mean_step(chains["model"].stats.grad_norm, x[0].numel())
        x = x + (self.noise_per_step * step).clamp(min=self.data_noise) * standard_normal(tuple(x.shape), rng)
        data, model = (nets["energy"](states).mean() / temperature for states in (x, chains["model"].x))
        return {"energy": data - model}, {"energy/gap": data - model, "energy/data": data, "energy/model": model}
