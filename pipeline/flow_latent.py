"""What recipes with a flow share: states are vectors z (n, d), and the flow maps them to data."""

import torch
from torch import Tensor

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian
from pipeline.nets.flow import FlowSettings, flow_energy, flow_of
from pipeline.nets.weights import Nets
from pipeline.recipe import Recipe
from pipeline.rng import standard_normal
from pipeline.samplers.hmc import HMC
from pipeline.samplers.langevin import Langevin


class FlowLatentRecipe(Recipe):
    """A recipe whose samples are g(z), z ~ N(0, I), where g is its network `flow`. By default no chain moves z."""

    flow: FlowSettings
    batch_size: int

    @property
    def sample_chain(self) -> str:
        """States z of the flow."""
        return "latent"

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """How likely items are."""
        return ("bits_per_dim", "nll_nats")

    def sampler(self, chain: str, nets: Nets, update: int) -> HMC | Langevin:
        """No steps."""
        return Langevin.textbook(0, 0.1)

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """N(0, I)."""
        return standard_normal((n, spec.size), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """|z|^2/2."""
        return gaussian()

    def normalized_energies(self, nets: Nets) -> dict[str, Energy]:
        """-log q of the flow."""
        return {"flow": flow_energy(flow_of(nets))}

    def decode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor:
        """g(z), with pixels quantized to their levels."""
        return self.flow.quantize(nets["flow"](x))

    def encode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor | None:
        """g^-1 of the dequantized data."""
        return flow_of(nets).encode(self.flow.dequantize(x, rng))[0]
