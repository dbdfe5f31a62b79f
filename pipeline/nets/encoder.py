"""Bottom-up networks: from data to the mean and log standard deviation of a Gaussian over latent vectors."""

from jaxtyping import Float
from torch import Tensor, nn

from pipeline.batch import Spec


class GaussianEncoder(nn.Module):
    """Data of one shape -> (mean, log sd), each (n, d): linear layers with LeakyReLU between.

    The log standard deviation is bounded softly to [-6, 6], beyond which neither it nor its gradient would be a number
    for long.
    """

    def __init__(self, spec: Spec, latent: int, widths: tuple[int, ...], slope: float):
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = spec.size
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(slope)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 2 * latent))

    def forward(self, x: Float[Tensor, "n *shape"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Mean and log standard deviation."""
        mean, log_sd = self.layers(x).chunk(2, 1)
        return mean, 6 * (log_sd / 6).tanh()
