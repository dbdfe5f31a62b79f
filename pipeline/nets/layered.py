"""A generator with several stochastic layers whose noise is all N(0, I) (1912.01909)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.nets.generator import GaussianDecoder
from pipeline.nets.sizes import require_at_least


class LayeredGenerator(GaussianDecoder):
    """Noise (n, d_L + ... + d_1), top layer first -> data of one shape; images end in tanh.

    The top layer z_L is its noise. Each layer below is z_l = mu_l + sd_l eps_l, with mean and log sd computed from the
    layers above. A hidden layer of `width` units with LeakyReLU reads each z_l and is added to the one above. With one
    layer this is an MLP with two hidden layers.

    Raises:
        InputError: there is no layer, or a dimension or `width` is below 1.
    """

    def __init__(self, latent_dims: tuple[int, ...], spec: Spec, width: int, leaky_slope: float):
        super().__init__()
        if not latent_dims:
            raise InputError("must have one layer or more", "latent_dims", latent_dims)
        require_at_least(1, latent_dims=min(latent_dims), width=width)
        self.latent_dims = list(latent_dims)
        self.read = nn.ModuleList(nn.Linear(d, width) for d in latent_dims)
        self.heads = nn.ModuleList(nn.Linear(width, 2 * d) for d in latent_dims[1:])
        self.mix = nn.ModuleList(nn.Linear(width, width) for _ in latent_dims)
        self.act = nn.LeakyReLU(leaky_slope)
        end = [nn.Tanh()] if spec.kind == "image" else []
        self.out = nn.Sequential(nn.Linear(width, spec.size), nn.Unflatten(1, spec.shape), *end)

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n *shape"]:
        """The mean of the data."""
        top, *noises = z.split(self.latent_dims, dim=1)
        h = self.act(self.mix[0](self.act(self.read[0](top))))
        for eps, head, read, mix in zip(noises, self.heads, self.read[1:], self.mix[1:], strict=True):
            mean, log_sd = head(h).chunk(2, 1)
            h = h + self.act(mix(self.act(read(mean + log_sd.tanh().exp() * eps))))
        return self.out(h)


class StepSize(nn.Module):
    """A step size as a network with one parameter, its logarithm. Raises InputError where it is not above 0."""

    def __init__(self, step_size: float):
        super().__init__()
        if step_size <= 0:
            raise InputError("must be greater than 0", "step_size", step_size)
        self.log = nn.Parameter(torch.tensor(step_size).log())

    def forward(self) -> Float[Tensor, ""]:
        """The step size."""
        return self.log.exp()
