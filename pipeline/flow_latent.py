"""What recipes with a flow have in common: states are vectors z (n, d), of which the flow makes data."""

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
    """Samples are g(z) of z ~ N(0, I), which no chain moves unless a recipe says so; `nets` have a `flow`."""

    flow: FlowSettings
    batch_size: int

    @property
    def sample_chain(self) -> str:
        """States behind the flow."""
        return "latent"

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
        """The flow."""
        return {"flow": flow_energy(flow_of(nets))}

    def decode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor:
        """g(z), its pixels on their levels."""
        return self.flow.quantize(nets["flow"](x))

    def encode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor | None:
        """g^-1 of dequantised data."""
        return flow_of(nets).encode(self.flow.dequantize(x, rng))[0]
