"""A flow learned by maximum likelihood: the starting point, and a baseline, of 1912.00589 and 2006.06897.

q(x) = N(z; 0, I) |det dz/dx| with z = g^-1(x), for vectors or for images whose pixels are dequantized anew at each
update. No chain runs; samples are g(z) with z ~ N(0, I).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.optim import Adam, Optimizer

from pipeline.batch import Spec
from pipeline.energies.energy import Energy
from pipeline.flow_latent import FlowLatentRecipe
from pipeline.nets.flow import FlowSettings, build_flow, flow_energy, flow_of
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, LossesAndMetrics, Metrics
from pipeline.settings import Count, Decay, NonNegative, PositiveInt


@dataclass(frozen=True)
class MaximumLikelihoodFlow(FlowLatentRecipe):
    """A flow learned by maximum likelihood.

    >>> recipe = MaximumLikelihoodFlow(warmup_updates=10)
    >>> recipe.learning_rate_factors(4, {}), recipe.chains
    ({'flow': 0.5}, {})
    """

    flow: FlowSettings = FlowSettings()
    batch_size: PositiveInt = 100
    """Data items per update, over all lanes."""
    lr: NonNegative = 1e-3
    """Learning rate after warm-up."""
    warmup_updates: Count = 50
    """Updates over which the learning rate rises linearly from 0."""
    lr_decay: Decay = 1.0
    """Factor of the learning rate at each update; 1: it is constant."""

    def nets(self, spec: Spec) -> Nets:
        """The flow g."""
        return {"flow": build_flow(self.flow, spec)}

    def data_dependent_init(self, nets: Nets, batch: Batches, rng: torch.Generator, pretrained: frozenset[str]) -> None:
        """Initialise the flow from the batch, unless it is pretrained."""
        if "flow" not in pretrained:
            flow_of(nets).init_from_data(self.flow.dequantize(batch["data"]["x"], rng))

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam."""
        return {"flow": Adam(nets["flow"].parameters(), self.lr)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """Linear warm-up, and exponential decay."""
        return {"flow": min(1.0, (update + 1) / max(self.warmup_updates, 1)) * self.lr_decay**update}

    def energy(self, nets: Nets) -> Energy:
        """-log q(x)."""
        return flow_energy(flow_of(nets))

    def normalized_energies(self, nets: Nets) -> dict[str, Energy]:
        """None beside the energy."""
        return {}

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """`nll_nats` or `bits_per_dim` (a bound, from one draw of dequantisation noise), and `energy`, -log q(x)."""
        x = batch["data"]["x"]
        energy = self.energy(nets)(self.flow.dequantize(x, rng))
        return {**self.flow.metrics(energy, x), "energy": energy}

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """-log q(x) per dimension."""
        x = batch["data"]["x"]
        energy = self.energy(nets)(self.flow.dequantize(x, rng))
        return {"flow": energy.mean() / x[0].numel()}, {k: v.mean() for k, v in self.flow.metrics(energy, x).items()}
