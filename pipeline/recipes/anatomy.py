"""On the Anatomy of MCMC-Based Maximum Likelihood Learning of Energy-Based Models.

Erik Nijkamp, Mitch Hill, Tian Han, Song-Chun Zhu, Ying Nian Wu. AAAI 2020, arXiv:1903.12370. Algorithm 1.

Whether learning ends in a density (convergent) or in a sampler alone (non-convergent) is decided by noise, optimizer
and where chains start. The network F moves chains with drift 1 and noise eps; the energy is U = F 2/eps^2 = F / T at
temperature 1 (appendix 3A), and d = E_data U - E_chains U is logged on its scale. SGD's rate is multiplied by T, so
that its step does not depend on eps.

Deviations from the paper:
1. A chain drawn from the bank may start anew with probability `restart`; the paper never does so (0).
2. Data are loaded in random order without replacement within an epoch, not drawn anew each time.
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
from pipeline.recipe import ChainSettings, ChainStates, Recipe
from pipeline.rng import initial_noise, standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, Decay, NonNegative, PositiveInt, Probability


@dataclass(frozen=True)
class Anatomy(Recipe):
    """Maximum-likelihood learning by MCMC, convergent or not."""

    langevin: Langevin = Langevin(steps=150, drift=1.0, noise=0.01)
    batch_size: PositiveInt = 100
    """Data items and chains an update, over all lanes."""
    start_from: Literal["uniform", "gaussian", "data"] = "uniform"
    """Where chains start: U[-1, 1], N(0, 1) or the batch."""
    start_scale: NonNegative = 1.0
    """Factor of the noise that chains start from."""
    bank: Count = 0
    """Persistent chains, over all lanes; 0: every chain starts anew."""
    restart_prob: Probability = 0.0
    """Probability that a chain drawn from the bank starts anew."""
    data_noise: NonNegative = 0.03
    """Standard deviation of the noise on the data, in the data's units; below the chains' noise, d runs away."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam makes gradients outgrow the noise; sgd, annealed, lets chains converge."""
    lr: NonNegative = 1e-4
    """Learning rate at the start."""
    final_lr: NonNegative = 0.0
    """Learning rate below which annealing does not go."""
    lr_decay: Decay = 1.0
    """Factor of the learning rate at each update; 1: it stays."""
    architecture: Literal["plain", "nonlocal"] = "plain"
    """Energy of images: the plain ConvNet, or the one with non-local blocks."""
    width: PositiveInt = 32
    """Channels of a ConvNet's first layer, units of an MLP's first layer."""
    leaky_slope: NonNegative = 0.05
    """LeakyReLU's slope below 0."""

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
        from_data = "data" if self.start_from == "data" else None
        settings = ChainSettings(self.batch_size, bank=self.bank, restart_prob=self.restart_prob, starts_from=from_data)
        return {"model": settings}

    def nets(self, spec: Spec) -> Nets:
        """The energy F: a ConvNet for images, an MLP (w, 2w, 2w, 2w) for vectors (appendix, architectures)."""
        if spec.kind == "image":
            kind = NonLocalEnergy if self.architecture == "nonlocal" else ConvEnergy
            return {"energy": kind(spec.shape, self.width, self.leaky_slope)}
        widths = (self.width, 2 * self.width, 2 * self.width, 2 * self.width)
        return {"energy": MLPEnergy(spec.shape[0], widths, self.leaky_slope)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with its default betas, or SGD whose rate is one for F."""
        parameters = nets["energy"].parameters()
        if self.optimizer == "adam":
            return {"energy": Adam(parameters, self.lr)}
        return {"energy": SGD(parameters, self.lr * self.langevin.temperature)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The energy, always; its rate falls by `decay` an update to `learning_rate_end`."""
        least = self.final_lr / self.lr if self.lr else 1.0
        return {"energy": max(self.lr_decay**update, min(least, 1.0))}

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """Fixed."""
        return self.langevin

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """Noise, or the data."""
        if self.start_from == "data":
            assert context is not None
            return context["x"][:n]
        return self.start_scale * initial_noise(self.start_from, (n, *spec.shape), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """The network F, whose chains are at temperature T."""
        return nets["energy"]

    def energy(self, nets: Nets) -> Energy:
        """The network."""
        return nets["energy"]

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The energy difference d = U(x + sigma xi) - U(x_K) (eq. 6), with U = F / T."""
        x, temperature = batch["data"]["x"], self.langevin.temperature
        x = x + self.data_noise * standard_normal(tuple(x.shape), rng)
        data, model = (nets["energy"](one).mean() / temperature for one in (x, chains["model"].x))
        ratio = self.langevin.gradient_to_noise(chains["model"].stats.grad_norm, x[0].numel())
        return {"energy": data - model}, {
            "energy/gap": data - model,
            "chains/gradient_to_noise": ratio,
            "energy/data": data,
            "energy/model": model,
        }
