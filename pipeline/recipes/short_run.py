"""Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based Model.

Erik Nijkamp, Mitch Hill, Song-Chun Zhu, Ying Nian Wu. NeurIPS 2019, arXiv:1904.09770. Algorithm 1.

K Langevin steps from a fixed noise distribution are the model; the network learns so that their results and the data
have the same energy. The paper writes f = -U and ascends.

Deviations from the paper:
1. The learning rate falls as 1/update from update `anneal` on, and the data noise stays; the paper lowers both, by
   hand, after its 200,000 updates.
2. The chains may start from data too (a comparison that 1903.12370 makes), and from a bank.
3. Two-dimensional data have an MLP for an energy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies import Energy
from pipeline.nets.conv import ConvEnergy
from pipeline.nets.mlp import MLPEnergy
from pipeline.recipe import ChainSettings, Moved, Recipe
from pipeline.samplers import Langevin
from pipeline.weights import Nets


@dataclass(frozen=True)
class ShortRun(Recipe):
    """The short-run EBM."""

    langevin: Langevin = Langevin(steps=100, drift=1.0, noise=0.01)
    batch: int = 64
    """Data items and chains an update, over all lanes (m)."""
    start_from: Literal["uniform", "gaussian", "data"] = "uniform"
    """Where chains start: U[-1, 1], N(0, start_scale^2) or the batch."""
    start_scale: float = 1.0
    """Factor of the noise that chains start from."""
    bank: int = 0
    """Persistent chains, over all lanes; 0: every chain starts anew, which is the paper."""
    restart: float = 0.0
    """Probability that a chain drawn from the bank starts anew."""
    data_noise: float = 0.03
    """Standard deviation of the noise on the data (sigma), in units of the data's [-1, 1]."""
    learning_rate: float = 1e-4
    """Learning rate of Adam."""
    anneal: int = 0
    """Update from which the learning rate falls, as anneal / update; 0: it stays."""
    width: int = 64
    """Channels of the ConvNet's first layer (nf); units of an MLP's first layer."""
    slope: float = 0.2
    """LeakyReLU's slope below 0."""

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """One chain, the model itself."""
        return {"model": ChainSettings(self.batch, bank=self.bank, restart=self.restart)}

    @property
    def streams(self) -> Mapping[str, int]:
        """Data alone."""
        return {"data": self.batch}

    def nets(self, spec: Spec) -> Nets:
        """The energy: a ConvNet for images, an MLP for vectors."""
        if spec.kind == "image":
            return {"energy": ConvEnergy(spec.shape, self.width, self.slope)}
        return {"energy": MLPEnergy(spec.shape[0], (self.width,) * 3, self.slope)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with its default betas."""
        return {"energy": Adam(nets["energy"].parameters(), self.learning_rate)}

    def players(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The energy, always; its rate falls late in the run, as the paper's does (section 5.1)."""
        return {"energy": min(1.0, self.anneal / max(update, 1)) if self.anneal else 1.0}

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """Fixed: K, drift and noise are part of the model."""
        return self.langevin

    def start(self, chain: str, n: int, rng: torch.Generator, nets: Nets, batch: dict[str, Batch]) -> Tensor:
        """Noise p_0, or the data."""
        x = batch["data"]["x"]
        if self.start_from == "data":
            return x[:n]
        noise = torch.empty((n, *x.shape[1:]), device=x.device)
        if self.start_from == "gaussian":
            return self.start_scale * noise.normal_(generator=rng)
        return self.start_scale * noise.uniform_(-1, 1, generator=rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """The network."""
        return nets["energy"]

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, Moved], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """U(x + sigma xi) - U(x_K): the gradient of section 3.1."""
        x = batch["data"]["x"]
        x = x + self.data_noise * torch.empty_like(x).normal_(generator=rng)
        data, model = nets["energy"](x).mean(), nets["energy"](chains["model"].x).mean()
        return {"energy": data - model}, {"chains/contrast": data - model, "energy/data": data, "energy/model": model}
