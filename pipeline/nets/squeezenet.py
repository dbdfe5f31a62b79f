"""SqueezeNet v1.0 (Iandola et al. 2016, arXiv:1602.07360): a classifier of ImageNet whose weights come from a file."""

import zipfile

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.errors import InputError

SIZE = 227
"""Height and width of its input in pixels."""
MEAN = (104.0, 117.0, 123.0)
"""Mean of blue, green and red in [0, 255]; it is subtracted from the input."""


class SqueezeNet(nn.Module):
    """Images (n, 1 or 3, h, w) in [-1, 1] -> features (n, 512) and unnormalised log-probabilities of 1,000 classes.

    The network is torchvision's; its convolutions are registered under the names that the file of weights has.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import squeezenet1_0  # here, because the import takes seconds

        net = squeezenet1_0()
        self.layers = (net.features,)  # a tuple, so that its convolutions are registered once
        self.conv1, self.conv_final = net.features[0], net.classifier[1]
        fires = [layer for layer in net.features if hasattr(layer, "squeeze")]
        for i, fire in enumerate(fires, 2):
            named = {"conv1x1_1": fire.squeeze, "conv1x1_2": fire.expand1x1, "conv3x3_2": fire.expand3x3}
            self.add_module(f"fire{i}", nn.ModuleDict(named))

    def forward(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n 512"], Float[Tensor, "n 1000"]]:
        """The output of fire9, averaged over positions, and the class scores computed from it, averaged likewise."""
        x = self.layers[0](_preprocess(x))
        return x.mean((2, 3)), self.conv_final(x).relu_().mean((2, 3))


def _preprocess(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 227 227"]:
    """Blue, green and red in [0, 255] minus their means, resized bilinearly; values beyond [-1, 1] are clipped."""
    x = (x.float().clamp(-1, 1) + 1) * 127.5
    x = interpolate(x.expand(-1, 3, -1, -1), (SIZE, SIZE), mode="bilinear", antialias=True)
    return x.flip(1) - x.new_tensor(MEAN).view(1, 3, 1, 1)


def squeezenet(path: str) -> SqueezeNet:
    """The network with the weights of an .npz file, frozen and in eval mode.

    The file has `<layer>/weight` (out, in, height, width) and `<layer>/bias` for each of the 26 convolutions.

    Raises:
        InputError: there is no such file, it is damaged, or it has other layers.
    """
    net = SqueezeNet()
    try:
        with np.load(path) as file:
            weights: dict[str, ndarray] = {name.replace("/", "."): file[name] for name in file.files}
        net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except FileNotFoundError as e:
        raise InputError("there is no such file", "squeezenet", path) from e
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as e:
        raise InputError(f"not an .npz that can be read: {str(e).splitlines()[0]}", "squeezenet", path) from e
    except (RuntimeError, TypeError) as e:
        lines = [line.strip() for line in str(e).splitlines() if line.strip()]
        raise InputError(f"no SqueezeNet v1.0: {lines[min(1, len(lines) - 1)][:160]}", "squeezenet", path) from e
    return net.eval().requires_grad_(False)
