"""Bags of words from latent vectors (the code of 2010.09359; background frequencies: 1906.02242)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.batch import Batch, Spec
from pipeline.errors import InputError
from pipeline.nets.mlp import MLP
from pipeline.nets.sizes import require_at_least

SAMPLED_WORDS = 30
"""Words in a sampled text; p(x|z) says which words a text has, not how many."""


class CountsDecoder(nn.Module):
    """p(x|z) of texts as word counts: independent words from softmax(g(z) + log background frequency).

    g is an MLP with two hidden layers and models how a text differs from the average text. Its last layer starts at 0.

    Raises:
        InputError: `width` or `latent_dim` is below 1, or the data have no words.
    """

    def __init__(self, latent_dim: int, spec: Spec, width: int, leaky_slope: float):
        super().__init__()
        require_at_least(1, latent_dim=latent_dim)
        if len(spec.frequency) != spec.size:
            raise InputError("the data have no words")
        self.layers = MLP(latent_dim, (width, width), spec.size, leaky_slope)
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]
        self.background: Tensor
        frequency = torch.tensor(spec.frequency, dtype=torch.float32)
        self.register_buffer("background", frequency.clamp(min=1e-8).log())

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n words"]:
        """The log-probability of each word."""
        scores: Tensor = self.layers(z) + self.background
        return scores.log_softmax(1)

    def loss(self, z: Float[Tensor, "n d"], items: Batch, sigma: float) -> Float[Tensor, " n"]:
        """-sum over words of count times log-probability, in nats; `sigma` is not used."""
        return -(items["x"] * self(z)).sum(1)

    def metrics(self, loss: Float[Tensor, " n"], items: Batch, sigma: float) -> dict[str, Float[Tensor, " n"]]:
        """`nll_nats_per_word`; 0 for a text without words."""
        return {"nll_nats_per_word": loss / items["x"].sum(1).clamp(min=1)}

    def sample(self, z: Float[Tensor, "n d"], rng: torch.Generator) -> Float[Tensor, "n words"]:
        """The counts of texts of `SAMPLED_WORDS` words."""
        words = torch.multinomial(self(z).exp(), SAMPLED_WORDS, replacement=True, generator=rng)
        counts = torch.zeros(len(z), len(self.background), device=z.device)
        return counts.scatter_add_(1, words, torch.ones_like(words, dtype=counts.dtype))
