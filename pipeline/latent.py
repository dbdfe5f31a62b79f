"""What recipes with a generator share: states are latent vectors z (n, d), and the generator makes data of them."""

import torch
from torch import Tensor

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy, gaussian, tilt
from pipeline.nets.generator import LatentLikelihood, ReconstructionEnergy, decoder_of
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, Metrics, Recipe
from pipeline.rng import standard_normal

ALL_KINDS = frozenset({"image", "vector", "counts", "text"})
"""Kinds of data that `nets.generator.build_decoder` has decoders for."""


class LatentRecipe(Recipe):
    """A recipe with latent vectors z and p(x|z), whose decoder is its network `generator`. All chains move z."""

    latent_dim: int
    sigma: float

    @property
    def sample_chain(self) -> str:
        """The chain `prior`; where the prior is N(0, I), its sampler makes no steps."""
        return "prior"

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """N(0, I)."""
        return standard_normal((n, self.latent_dim), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """For the prior N(0, I), |z|^2/2; of chains whose context are items, -log p(x|z) + |z|^2/2."""
        if context is None:
            return gaussian()
        return tilt(ReconstructionEnergy(context, decoder_of(nets), self.sigma), gaussian())

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """At posterior states, for the prior N(0, I): the decoder's metrics, and `energy`, -log p(x, z) up to log Z."""
        items, z = batch["data"], chains["posterior"].x
        loss = decoder_of(nets).loss(z, items, self.sigma)
        return {**decoder_of(nets).metrics(loss, items, self.sigma), "energy": loss + gaussian()(z)}

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """How well items are reconstructed and classified, and the energy gap of the prior."""
        return ("mse", "nll_nats", "nll_nats_per_word", "accuracy", "energy/gap")

    def likelihood(self, nets: Nets) -> LatentLikelihood:
        """The generator, with `sigma`."""
        return LatentLikelihood(decoder_of(nets), self.sigma)
