"""Top-down networks: from a latent vector to data (2006.08205, table 8; 1912.01909, 1911.11374)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Gradient, autograd_gradient
from pipeline.nets.counts import CountsDecoder
from pipeline.nets.input_gradient import layer_passes
from pipeline.nets.mlp import MLP
from pipeline.nets.sizes import require_at_least
from pipeline.nets.text import SentenceDecoder


@runtime_checkable
class Decoder(Protocol):
    """The likelihood p(x|z) of data of any kind, by a network that a recipe learns."""

    def loss(self, z: Float[Tensor, "n d"], items: Batch, sigma: float) -> Float[Tensor, " n"]:
        """-log p(x|z) of each item in nats, up to terms that depend neither on z nor on the network."""
        ...

    def metrics(self, loss: Float[Tensor, " n"], items: Batch, sigma: float) -> dict[str, Float[Tensor, " n"]]:
        """The losses in usual units, by name: `mse` per coordinate, or `nll_nats_per_word`."""
        ...

    def sample(self, z: Float[Tensor, "n d"], rng: torch.Generator) -> Tensor:
        """(n, *shape) data from p(x|z)."""
        ...


class LatentLikelihood(NamedTuple):
    """The likelihood p(x|z) of a latent-variable model.

    >>> from pipeline import LatentPrior
    >>> recipe = LatentPrior(latent_dim=8, sigma=0.2, width=16)
    >>> likelihood = recipe.likelihood(recipe.nets(Spec("vector", (2,), 0)))
    >>> likelihood.sigma, likelihood.decoder.sample(torch.zeros(5, 8), torch.Generator()).shape
    (0.2, torch.Size([5, 2]))
    """

    decoder: Decoder
    sigma: float
    """Standard deviation of the data about the decoder's output; decoders of text and counts ignore it."""


class GaussianDecoder(nn.Module):
    """x = g(z) + sigma xi, where g is the network's `forward`."""

    def loss(self, z: Float[Tensor, "n d"], items: Batch, sigma: float) -> Float[Tensor, " n"]:
        """|x - g(z)|^2 / (2 sigma^2); where the items have `observed`, only over coordinates where it is 1."""
        x, mean = items["x"], self(z)
        if "observed" in items:
            x, mean = items["observed"] * x, items["observed"] * mean
        return (x - mean).flatten(1).square().sum(1) / (2 * sigma**2)

    def metrics(self, loss: Float[Tensor, " n"], items: Batch, sigma: float) -> dict[str, Float[Tensor, " n"]]:
        """`mse`, the squared error per coordinate."""
        return {"mse": loss * (2 * sigma**2 / items["x"][0].numel())}

    def sample(self, z: Float[Tensor, "n d"], rng: torch.Generator) -> Tensor:
        """g(z), without noise."""
        mean: Tensor = self(z)
        return mean


class ConvGenerator(nn.Sequential, GaussianDecoder):
    """Latent vectors (n, d) -> images (n, c, h, w) in [-1, 1].

    A full transposed convolution to the smallest size that halving the image reaches without a side below 4; then
    transposed 4x4 convolutions of stride 2, which double the size and halve the width, down to `width` before the last
    one. LeakyReLU between, tanh at the end, no normalisation layers. Weights are channels_last.

    Raises:
        InputError: `width` or `latent_dim` is below 1.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: int, leaky_slope: float):
        channels, *size = shape
        require_at_least(1, latent_dim=latent_dim, width=width)
        doublings = 0
        while all(s % 2 == 0 and s >= 8 for s in size):
            size, doublings = [s // 2 for s in size], doublings + 1
        inner = width * 2**doublings if doublings else channels
        layers: list[nn.Module] = [
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, inner, (size[0], size[1])),
        ]
        for i in range(doublings, 0, -1):
            outer = inner // 2 if i > 1 else channels
            layers += [nn.LeakyReLU(leaky_slope), nn.ConvTranspose2d(inner, outer, 4, 2, 1)]
            inner = outer
        super().__init__(*layers, nn.Tanh())
        self.to(memory_format=torch.channels_last)


class MLPGenerator(nn.Sequential, GaussianDecoder):
    """Latent vectors (n, d) -> data of one shape: an MLP with LeakyReLU; images end in tanh.

    Raises:
        InputError: a width, or `latent_dim`, is below 1.
    """

    def __init__(self, latent_dim: int, spec: Spec, widths: tuple[int, ...], leaky_slope: float):
        require_at_least(1, latent_dim=latent_dim)
        layers = [*MLP(latent_dim, widths, spec.size, leaky_slope), nn.Unflatten(1, spec.shape)]
        super().__init__(*layers, *([nn.Tanh()] if spec.kind == "image" else []))


def build_decoder(
    kind: Literal["conv", "mlp"], latent_dim: int, spec: Spec, width: int, leaky_slope: float
) -> nn.Module:
    """The decoder for a kind of data: recurrent for text, convolutional for images if `kind` is conv, else an MLP.

    `width` is the size of the recurrent state, the channels before the last convolution, or the units of the MLP's two
    hidden layers.

    Raises:
        InputError: `width` or `latent_dim` is too small, or text has no words.
    """
    if spec.kind == "text":
        return SentenceDecoder(latent_dim, spec, width)
    if spec.kind == "counts":
        return CountsDecoder(latent_dim, spec, width, leaky_slope)
    if spec.kind == "image" and kind == "conv":
        return ConvGenerator(latent_dim, spec.shape, width, leaky_slope)
    return MLPGenerator(latent_dim, spec, (width, width), leaky_slope)


def decoder_of(nets: Mapping[str, nn.Module]) -> Decoder:
    """A recipe's network `generator`, typed."""
    return cast(Decoder, nets["generator"])


@dataclass(frozen=True)
class ReconstructionEnergy:
    """-log p(x|z) of n items, as an energy of z, up to terms that do not depend on z."""

    items: Batch
    decoder: Decoder
    sigma: float

    def __post_init__(self) -> None:
        if isinstance(self.decoder, SentenceDecoder):  # before many steps, none of which then waits for a GPU
            object.__setattr__(self, "items", self.decoder.locate_words(self.items))

    def __call__(self, z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The loss of each item."""
        return self.decoder.loss(z, self.items, self.sigma)

    def gradient(self) -> Gradient:
        """Written out for generators that are a chain of layers, autograd's otherwise (`energies.energy.gradient`)."""
        net = self.decoder
        passes = layer_passes(net) if type(net) in (ConvGenerator, MLPGenerator) else None  # type: ignore[arg-type]
        if passes is None:
            return partial(autograd_gradient, self)
        (forward, backward), x, precision = passes, self.items["x"], 1 / self.sigma**2
        weight = precision * self.items["observed"].square() if "observed" in self.items else precision
        dtype = next(net.parameters()).dtype  # type: ignore[attr-defined]

        def gradient(z: Tensor) -> Tensor:
            mean, saved = forward(z.to(dtype))
            return backward((mean - x).mul_(weight).to(dtype), saved).to(z.dtype)

        return gradient
