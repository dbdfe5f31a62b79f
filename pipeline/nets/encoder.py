"""Bottom-up networks: from data to the mean and log standard deviation of a Gaussian over latent vectors."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.batch import Spec
from pipeline.nets.conv import halving
from pipeline.nets.sizes import require_at_least
from pipeline.nets.text import SentenceEncoder
from pipeline.rng import standard_normal


class GaussianEncoder(nn.Module):
    """Data of one shape -> (mean, log sd), each (n, d): linear layers with LeakyReLU (and dropout) between.

    The log standard deviation is bounded softly to [-6, 6], beyond which neither it nor its gradient would be a number
    for long.
    """

    def __init__(self, spec: Spec, latent_dim: int, widths: tuple[int, ...], leaky_slope: float, dropout: float = 0.0):
        super().__init__()
        require_at_least(1, latent_dim=latent_dim, width=min(widths))
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = spec.size
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(leaky_slope), *_dropout(dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 2 * latent_dim))

    def forward(self, x: Float[Tensor, "n *shape"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Mean and log standard deviation."""
        mean, log_sd = self.layers(x).chunk(2, 1)
        return mean, 6 * (log_sd / 6).tanh()


class ConvEncoder(GaussianEncoder):
    """Images (n, c, h, w) -> (mean, log sd): convolutions that halve the image, and a linear layer; no normalisation.

    Raises:
        InputError: no width.
    """

    def __init__(self, spec: Spec, latent_dim: int, width: int, leaky_slope: float, dropout: float = 0.0):
        nn.Module.__init__(self)
        require_at_least(1, latent_dim=latent_dim)
        layers, end = halving(spec.shape, width, leaky_slope)
        last = nn.Linear(math.prod(end), 2 * latent_dim)
        self.layers = nn.Sequential(*layers, nn.Flatten(), *_dropout(dropout), last)


def build_encoder(
    kind: Literal["conv", "mlp"], spec: Spec, latent_dim: int, width: int, leaky_slope: float, dropout: float = 0.0
) -> nn.Module:
    """The encoder of a kind of data: recurrent for text; for images convolutions, if asked for; else a two-layer MLP.

    Raises:
        InputError: no width.
    """
    if spec.kind == "text":
        return SentenceEncoder(spec, latent_dim, width, dropout)
    if spec.kind == "image" and kind == "conv":
        return ConvEncoder(spec, latent_dim, width, leaky_slope, dropout)
    return GaussianEncoder(spec, latent_dim, (width, width), leaky_slope, dropout)


def reparameterize(
    encoder: nn.Module, x: Tensor, rng: torch.Generator
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """A latent vector of each item by the encoder's Gaussian, and its KL to N(0, I) in nats; differentiable in both."""
    mean, log_sd = encoder(x)
    z = mean + log_sd.exp() * standard_normal(tuple(mean.shape), rng)
    return z, ((mean.square() + (2 * log_sd).exp() - 1) / 2 - log_sd).sum(1)


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []
