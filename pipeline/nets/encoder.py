"""Encoders: from data to the mean and log standard deviation of a Gaussian over latent vectors."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.batch import Spec
from pipeline.nets.conv import halving_layers
from pipeline.nets.mlp import MLP
from pipeline.nets.sizes import require_at_least
from pipeline.nets.text import SentenceEncoder
from pipeline.rng import standard_normal


class GaussianEncoder(nn.Module):
    """Data of one shape -> (mean, log sd), each (n, d): an MLP with LeakyReLU and, if asked, dropout.

    The log standard deviation is softly bounded to [-6, 6], so that its exponential and gradient stay finite.

    Raises:
        InputError: a width, or `latent_dim`, is below 1.
    """

    def __init__(self, spec: Spec, latent_dim: int, widths: tuple[int, ...], leaky_slope: float, dropout: float = 0.0):
        super().__init__()
        require_at_least(1, latent_dim=latent_dim)
        self.layers = nn.Sequential(nn.Flatten(), *MLP(spec.size, widths, 2 * latent_dim, leaky_slope, dropout))

    def forward(self, x: Float[Tensor, "n *shape"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Mean and log standard deviation."""
        mean, log_sd = self.layers(x).chunk(2, 1)
        return mean, 6 * (log_sd / 6).tanh()


class ConvEncoder(GaussianEncoder):
    """Images (n, c, h, w) -> (mean, log sd): convolutions that halve the image, then a linear layer.

    Raises:
        InputError: `width` or `latent_dim` is below 1.
    """

    def __init__(self, spec: Spec, latent_dim: int, width: int, leaky_slope: float, dropout: float = 0.0):
        nn.Module.__init__(self)
        require_at_least(1, latent_dim=latent_dim)
        layers, end = halving_layers(spec.shape, width, leaky_slope)
        layers += [nn.Flatten(), *([nn.Dropout(dropout)] if dropout else []), nn.Linear(math.prod(end), 2 * latent_dim)]
        self.layers = nn.Sequential(*layers)


def build_encoder(
    kind: Literal["conv", "mlp"], spec: Spec, latent_dim: int, width: int, leaky_slope: float, dropout: float = 0.0
) -> nn.Module:
    """The encoder for a kind of data: recurrent for text, convolutional for images if `kind` is conv, else an MLP.

    `width` is the size of the recurrent state, the channels of the first convolution, or the units of the MLP's two
    hidden layers.

    Raises:
        InputError: `width` or `latent_dim` is too small.
    """
    if spec.kind == "text":
        return SentenceEncoder(spec, latent_dim, width, dropout)
    if spec.kind == "image" and kind == "conv":
        return ConvEncoder(spec, latent_dim, width, leaky_slope, dropout)
    return GaussianEncoder(spec, latent_dim, (width, width), leaky_slope, dropout)


def reparameterize(
    encoder: nn.Module, x: Tensor, rng: torch.Generator
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """A draw z of q(z|x) for each item, and KL(q(z|x) || N(0, I)) in nats; both are differentiable."""
    mean, log_sd = encoder(x)
    z = mean + log_sd.exp() * standard_normal(tuple(mean.shape), rng)
    return z, ((mean.square() + (2 * log_sd).exp() - 1) / 2 - log_sd).sum(1)
