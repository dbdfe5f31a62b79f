"""Glow: a normalising flow of images (Kingma and Dhariwal 2018, 1807.03039), small enough to decode at every step.

From image to vector, at each scale: squares of 2x2 pixels become channels; then steps of an affine map per channel
(actnorm), an invertible 1x1 convolution and an affine coupling; then, except at the last scale, half of the channels
become output, standardised by a convolution of the other half.

Deviations from the paper:
1. Log scales in a coupling are bounded by 2, as 2 tanh(s / 2), so that both directions are stable; the paper has a
   sigmoid.
2. With a `margin`, pixels first go through a logit, as in Real NVP (Dinh et al. 2017, 4.1), which continues as straight
   lines beyond [-1, 1]: in drawings, nearly all pixels lie in narrow intervals at the ends.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle

from pipeline.errors import InputError
from pipeline.nets.couplings import LogDet

BOUND = 2.0
"""Bound of the log scale in a coupling."""


class Logit(nn.Module):
    """log (1 + margin + x) / (1 + margin - x) of each number in [-1, 1], and straight lines beyond; margin 0: x."""

    def __init__(self, margin: float):
        super().__init__()
        self.margin = margin
        self.end = math.log(2 / margin + 1) if margin else 1.0
        self.slope = 1 / margin + 1 / (2 + margin) if margin else 1.0

    def encode(self, x: Tensor) -> tuple[Tensor, Float[Tensor, " n"]]:
        """The logits of x, and log |det dy/dx| (n,)."""
        if not self.margin:
            return x, x.new_zeros(len(x))
        within = x.clamp(-1, 1)
        low, high = self._distances(within)
        return (low / high).log() + self.slope * (x - within), self._log_det(within)

    def decode(self, y: Tensor) -> tuple[Tensor, LogDet]:
        """The inverse of `encode`, and its log |det dy/dx| (n,) there."""
        if not self.margin:
            return y, lambda: y.new_zeros(len(y))
        inside = y.clamp(-self.end, self.end)
        within = (1 + self.margin) * (inside / 2).tanh()
        return within + (y - inside) / self.slope, lambda: self._log_det(within)

    def _distances(self, within: Tensor) -> tuple[Tensor, Tensor]:
        """Distances to the poles of the logit."""
        return 1 + self.margin + within, 1 + self.margin - within

    def _log_det(self, within: Tensor) -> Float[Tensor, " n"]:
        low, high = self._distances(within)
        return (2 * (1 + self.margin) / (low * high)).log().flatten(1).sum(1)


class InvertibleConv(nn.Module):
    """Actnorm, then an invertible 1x1 convolution W = P L (U + diag s), whose log-determinant is sum log |s|."""

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        permutation, lower, upper = torch.linalg.lu(torch.linalg.qr(torch.randn(channels, channels))[0])
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())

    def _factors(self) -> tuple[Tensor, Tensor]:
        """P L, and U + diag s."""
        one = torch.eye(len(self.shift), device=self.shift.device)
        return self.permutation @ (self.lower.tril(-1) + one), self.upper.triu(1) + torch.diag(
            self.sign * self.log_diagonal.exp()
        )

    def log_det(self, pixels: int) -> Float[Tensor, ""]:
        """log |det dz/dx|, the same for every image."""
        return pixels * (self.log_scale.sum() + self.log_diagonal.sum())

    def encode(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """W ((x + shift) scale), in one convolution."""
        lower, upper = self._factors()
        weight = lower @ upper * self.log_scale.exp()
        return conv2d(x, weight[:, :, None, None], weight @ self.shift)

    def inverse(self) -> tuple[Float[Tensor, "c c 1 1"], Float[Tensor, " c"]]:
        """Weight and bias of the convolution that inverts `encode`: W^-1 z / scale - shift."""
        lower, upper = self._factors()
        inverse = torch.linalg.solve_triangular(self.permutation.T @ lower, self.permutation.T, upper=False)
        inverse = torch.linalg.solve_triangular(upper, inverse, upper=True)
        weight = (-self.log_scale).exp()[:, None] * inverse
        return weight[:, :, None, None], -self.shift

    @torch.no_grad()
    def init_from_data(self, x: Float[Tensor, "n c h w"]) -> None:
        """Set actnorm so that the channels of x get mean 0 and variance 1."""
        sd, mean = torch.std_mean(x, (0, 2, 3))
        self.shift.copy_(-mean)
        self.log_scale.copy_(-sd.clamp(min=1e-3).log())


class Coupling(nn.Module):
    """(a, b) -> (a, b scale(a) + shift(a)), with scale and shift from three convolutions, the last initialised to 0."""

    def __init__(self, a_channels: int, b_channels: int, hidden: int):
        super().__init__()
        last = nn.Conv2d(hidden, 2 * b_channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        first = [nn.Conv2d(a_channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, hidden, 1), nn.ReLU()]
        self.net = nn.Sequential(*first, last)

    def _affine(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The log scale in units of its bound, and the shift."""
        log_scale, shift = self.net(a).chunk(2, 1)
        return (log_scale / BOUND).tanh(), shift

    def encode(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """b scale + shift, and its log |det| (n,)."""
        part, shift = self._affine(a)
        log_scale = BOUND * part
        return b * log_scale.exp() + shift, log_scale.flatten(1).sum(1)

    def decode(self, a: Tensor, b: Tensor) -> tuple[Tensor, LogDet]:
        """(b - shift) / scale, and log |det| (n,) of `encode` there."""
        part, shift = self._affine(a)
        return (b - shift) * (-BOUND * part).exp(), lambda: (BOUND * part).flatten(1).sum(1)


class FlowStep(nn.Module):
    """An invertible convolution, then a coupling between the halves of the channels."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.conv, self.coupling = InvertibleConv(channels), Coupling(channels // 2, channels // 2, hidden)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The step, and its log |det| (n,)."""
        a, b = self.conv.encode(x).chunk(2, 1)
        b, log_det = self.coupling.encode(a, b)
        return torch.cat([a, b], 1), log_det + self.conv.log_det(x[0, 0].numel())

    def inverse(self) -> tuple[Tensor, Tensor]:
        """Of the convolution, in the type of the coupling's weights, so that no step of a chain casts it."""
        weight, bias = self.conv.inverse()
        dtype = next(self.coupling.parameters()).dtype
        return weight.to(dtype), bias.to(dtype)

    def decode(self, z: Tensor, inverse: tuple[Tensor, Tensor]) -> tuple[Tensor, LogDet]:
        """The inverse, and log |det| (n,) of `encode` there, by `inverse`."""
        a, b = z.chunk(2, 1)
        b, log_det = self.coupling.decode(a, b)
        pixels = z[0, 0].numel()
        return conv2d(torch.cat([a, b], 1), *inverse), lambda: log_det() + self.conv.log_det(pixels)

    def init_from_data(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Set actnorm from x; returns `encode` of x."""
        self.conv.init_from_data(x)
        return self.encode(x)


class Glow(nn.Module):
    """Images (n, c, h, w) <-> vectors (n, c h w), by `couplings` steps at each of `scales` scales.

    With a `margin`, pixels first go through a logit. Weights are channels_last.

    Raises:
        InputError: the sides of the images cannot be halved `scales` times.
    """

    def __init__(self, shape: tuple[int, ...], scales: int, couplings: int, hidden: int, margin: float = 0.0):
        super().__init__()
        channels, *sides = shape
        if any(side % 2**scales for side in sides):
            raise InputError(f"{sides[0]}x{sides[1]} pixels cannot be halved {scales} times", "scales", scales)
        self.logit = Logit(margin)
        self.steps, self.splits, self.shapes = nn.ModuleList(), nn.ModuleList(), list[tuple[int, ...]]()
        for scale in range(scales):
            channels, sides = 4 * channels, [side // 2 for side in sides]
            self.steps.append(nn.ModuleList(FlowStep(channels, hidden) for _ in range(couplings)))
            if scale < scales - 1:
                channels //= 2
                self.splits.append(Coupling(channels, channels, hidden))
            self.shapes.append((channels, *sides))
        self.to(memory_format=torch.channels_last)

    def encode(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """Images -> z, the finest scale first, and log |det dz/dx|."""
        return self._encode(x, lambda step, x: step.encode(x))

    def _encode(self, x: Tensor, apply: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """`encode`, where `apply` is called for each step."""
        outputs = []
        x, log_det = self.logit.encode(x)
        for i, steps in enumerate(self.steps):
            x = pixel_unshuffle(x, 2)
            for step in steps:  # type: ignore[attr-defined]
                x, of_step = apply(step, x)
                log_det = log_det + of_step
            if i < len(self.splits):
                x, output = x.chunk(2, 1)
                output, of_split = self.splits[i].encode(x, output)  # type: ignore[operator]
                outputs.append(output.flatten(1))
                log_det = log_det + of_split
        return torch.cat([*outputs, x.flatten(1)], 1), log_det

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n c h w"]:
        """The inverse of `encode`."""
        return self.decoder()(z)

    def decode(self, z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, " n"]]:
        """The inverse of `encode`, and log |det dz/dx| there."""
        x, log_dets = self._decode(z, self._inverses())
        log_det = z.new_zeros(len(z))
        for of_part in log_dets:
            log_det = log_det + of_part()
        return x, log_det

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """`forward` for many calls, by the present weights: their inverses are computed once."""
        inverses = self._inverses()
        return lambda z: self._decode(z, inverses)[0]

    def _inverses(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Of the convolutions of each scale's steps."""
        return [[step.inverse() for step in steps] for steps in self.steps]  # type: ignore[attr-defined]

    def _decode(self, z: Tensor, inverses: list[list[tuple[Tensor, Tensor]]]) -> tuple[Tensor, list[LogDet]]:
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        parts = [part.view(-1, *shape) for part, shape in zip(z.split(sizes, 1), self.shapes, strict=True)]
        x, log_dets = parts.pop(), list[LogDet]()
        for i in reversed(range(len(self.steps))):
            if i < len(self.splits):
                output, of_split = self.splits[i].decode(x, parts.pop())  # type: ignore[operator]
                x = torch.cat([x, output], 1)
                log_dets.append(of_split)
            for step, inverse in zip(reversed(self.steps[i]), reversed(inverses[i]), strict=True):  # type: ignore[call-overload]
                x, of_step = step.decode(x, inverse)
                log_dets.append(of_step)
            x = pixel_shuffle(x, 2)
        x, of_logit = self.logit.decode(x)
        return x, [*log_dets, of_logit]

    @torch.no_grad()
    def init_from_data(self, x: Float[Tensor, "n c h w"]) -> None:
        """Set each step's actnorm so that its channels have mean 0 and variance 1 on x (section 3.1)."""
        self._encode(x, lambda step, x: step.init_from_data(x))
