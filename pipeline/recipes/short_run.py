"""Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based Model.

Erik Nijkamp, Mitch Hill, Song-Chun Zhu, Ying Nian Wu. NeurIPS 2019, arXiv:1904.09770. Algorithm 1.

The model is K Langevin steps from a fixed noise distribution p_0. The network learns so that the states after these
steps have the same mean energy as the data. The paper writes f = -U and ascends.

Deviations from the paper:
1. The learning rate falls as 1 / update from update `anneal` on, and the data noise is constant; the paper lowers both
   by hand after its 200,000 updates.
2. Chains may also start from Gaussian noise, and vectors have an MLP as energy.
3. The data noise may keep up with the chains' steps (`noise_per_step`), so that learning does not run away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.conv import build_energy
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, ChainSettings, LossesAndMetrics, Recipe
from pipeline.rng import initial_noise, standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, NonNegative, PositiveInt


@dataclass(frozen=True)
class ShortRun(Recipe):
    """The short-run EBM.

    >>> recipe = ShortRun(langevin=Langevin(100, drift=1.0, noise=0.01), anneal=1000)
    >>> recipe.langevin.temperature, recipe.learning_rate_factors(4000, {})
    (5e-05, {'energy': 0.25})
    """

    langevin: Langevin = Langevin(steps=100, drift=1.0, noise=0.01)
    batch_size: PositiveInt = 64
    """Data items and chains per update, over all lanes (m)."""
    start_from: Literal["uniform", "gaussian"] = "uniform"
    """Distribution p_0 of the chains' starts: U[-1, 1] or N(0, 1)."""
    start_scale: NonNegative = 1.0
    """Factor of the noise that chains start from."""
    data_noise: NonNegative = 0.03
    """Standard deviation of the noise added to the data (sigma), in units of the data's [-1, 1]."""
    noise_per_step: NonNegative = 0.0
    """Least standard deviation of that noise, in units of the chains' mean step per coordinate; 0: it is constant."""
    lr: NonNegative = 1e-4
    """Learning rate of Adam."""
    anneal: Count = 0
    """Update from which the learning rate falls, by the factor anneal / update; 0: it is constant."""
    width: PositiveInt = 64
    """Channels of the ConvNet's first layer (nf), or units of the MLP's three layers."""
    leaky_slope: NonNegative = 0.2
    """Slope of LeakyReLU below 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.langevin.steps:
            raise InputError("chains without steps are their own start", "steps", 0)

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain, the model; it starts anew at every update."""
        return {"model": ChainSettings(self.batch_size)}

    def nets(self, spec: Spec) -> Nets:
        """The energy U: a ConvNet for images, an MLP for vectors."""
        return {"energy": build_energy(spec, self.width, self.leaky_slope)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with its default betas."""
        return {"energy": Adam(nets["energy"].parameters(), self.lr)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """Annealed late in the run (section 5.1)."""
        return {"energy": min(1.0, self.anneal / max(update, 1)) if self.anneal else 1.0}

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """K steps, the same throughout: they are part of the model."""
        return self.langevin

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """Draws of p_0."""
        return self.start_scale * initial_noise(self.start_from, (n, *spec.shape), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """U."""
        return nets["energy"]

    def energy(self, nets: Nets) -> Energy:
        """U."""
        return nets["energy"]

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """U(x + sigma xi) - U(x_K), whose gradient is that of section 3.1."""
        x = batch["data"]["x"]
        step = self.langevin.mean_step(chains["model"].stats.grad_norm, x[0].numel())
        x = x + (self.noise_per_step * step).clamp(min=self.data_noise) * standard_normal(tuple(x.shape), rng)
        data, model = nets["energy"](x).mean(), nets["energy"](chains["model"].x).mean()
        return {"energy": data - model}, {"energy/gap": data - model, "energy/data": data, "energy/model": model}
