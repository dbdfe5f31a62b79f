"""The gradient of a chain of layers by its input, by hand.

What that saves beside autograd: no graph is recorded or walked, activations are computed in place, gradients are
overwritten, what both ways need of an activation is computed once, and the last layer, whose gradient no input changes,
not at all.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, leaky_relu_

from pipeline.energies.energy import Gradient

Forth: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From a layer's input, which it may overwrite if it is an activation: its output, and what the way back needs."""
Back: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From the gradient by the output, which it may overwrite, and what was kept: the gradient by the input."""
Layers: TypeAlias = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
LayersBack: TypeAlias = Callable[[Tensor, list[Tensor]], Tensor]
"""The same of several."""

aten = torch.ops.aten


def input_gradient(net: nn.Sequential) -> Gradient | None:
    """The gradient by x (n, *d) of the sum of all that `net` makes of x, for states of the weights' dtype.

    It is None for a network that `through` does not know, or whose last layer is neither linear nor a convolution; such
    a convolution's kernel is as large as what it reads.
    """
    *inner, last = net
    ways = layer_passes(inner) if type(last) in (nn.Linear, nn.Conv2d) else None
    if ways is None:
        return None
    forth, back = ways
    end = cast(nn.Linear | nn.Conv2d, last).weight.detach().sum(0)

    def gradient(x: Tensor) -> Tensor:
        before, kept = forth(x)
        return back(torch.empty_like(before).copy_(end), kept)

    return gradient


def layer_passes(layers: Iterable[nn.Module]) -> tuple[Layers, LayersBack] | None:
    """Both ways through layers one after the other, under `no_grad`: from x their output and what to keep of it; from
    the gradient by the output, which is overwritten, and what was kept, the gradient by x.

    It is None where a layer is not known here, or an activation, which overwrites, comes first or after another one.
    """
    chain = list(layers)
    kinds = [nn.Tanh, *(type(layer) for layer in chain if type(layer) is not nn.Unflatten)]
    if any(a in ACTIVATIONS and b in ACTIVATIONS for a, b in pairwise(kinds)) or not all(map(_is_known, chain)):
        return None
    ways = [(LINEAR | ACTIVATIONS)[type(layer)](layer) for layer in chain]

    def forth(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        kept = []
        for way, _ in ways:
            x, seen = way(x)
            kept.append(seen)
        return x, kept

    def back(slope: Tensor, kept: list[Tensor]) -> Tensor:
        for _, way in reversed(ways):
            slope = way(slope, kept.pop())
        return slope

    return forth, back


def _is_known(layer: nn.Module) -> bool:
    if isinstance(layer, nn.LeakyReLU):
        return type(layer) is nn.LeakyReLU and layer.negative_slope >= 0
    if isinstance(layer, nn.GELU):
        return type(layer) is nn.GELU and layer.approximate == "none"
    if isinstance(layer, nn.Unflatten):
        return layer.dim == 1
    if isinstance(layer, nn.Conv2d):
        return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return type(layer) in LINEAR | ACTIVATIONS


def _linear(layer: nn.Linear) -> tuple[Forth, Back]:
    weight, across = layer.weight, layer.weight.t().contiguous()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
    return lambda x: (torch.addmm(bias, x, across), x), lambda slope, _: torch.mm(slope, weight)


def _conv(layer: nn.Conv2d) -> tuple[Forth, Back]:
    of_input_alone = (
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0, 0],
        layer.groups,
        [True, False, False],
    )

    def back(slope: Tensor, seen: Tensor) -> Tensor:
        found: tuple[Tensor, ...] = aten.convolution_backward(slope, seen, layer.weight, *of_input_alone)
        return found[0]

    return lambda x: (layer(x), x), back


def _transposed(layer: nn.ConvTranspose2d) -> tuple[Forth, Back]:
    padding = cast(tuple[int, int], layer.padding)
    how = (None, layer.stride, padding, layer.dilation, layer.groups)
    return lambda x: (layer(x), x), lambda slope, _: conv2d(slope, layer.weight, *how)


def _unflatten(layer: nn.Unflatten) -> tuple[Forth, Back]:
    return lambda x: (layer(x), x), lambda slope, _: slope.flatten(1)


def _tanh(layer: nn.Tanh) -> tuple[Forth, Back]:
    def forth(x: Tensor) -> tuple[Tensor, Tensor]:
        x.tanh_()
        return x, x

    return forth, lambda slope, seen: aten.tanh_backward.grad_input(slope, seen, grad_input=slope)


def _leaky_relu(layer: nn.LeakyReLU) -> tuple[Forth, Back]:
    """The gradient goes by the sign of the input, which is that of the output, or by neither."""
    below = layer.negative_slope

    def forth(x: Tensor) -> tuple[Tensor, Tensor]:
        leaky_relu_(x, below)
        return x, x

    def back(slope: Tensor, seen: Tensor) -> Tensor:
        return aten.leaky_relu_backward.grad_input(slope, seen, below, False, grad_input=slope)

    return forth, back


def _gelu(layer: nn.GELU) -> tuple[Forth, Back]:
    """Forth x Phi(x), and of few numbers on a CPU its derivative Phi(x) + x phi(x) with it, from the same erf."""
    half, root, density = torch.tensor(0.5), torch.tensor(0.5).sqrt(), 1 / math.sqrt(2 * math.pi)

    def forth(x: Tensor) -> tuple[Tensor, Tensor]:
        if not _few(x):
            return gelu(x), x
        scaled = x * root
        bell = torch.square(scaled).neg_().exp_()
        share = torch.add(half, scaled.erf_(), alpha=0.5)
        derivative = torch.addcmul(share, x, bell, value=density)
        return share.mul_(x), derivative

    def back(slope: Tensor, seen: Tensor) -> Tensor:
        return slope.mul_(seen) if _few(seen) else aten.gelu_backward.grad_input(slope, seen, grad_input=slope)

    return forth, back


def _few(x: Tensor) -> bool:
    """Whether torch's own GELU, which computes erf twice and starts slowly, is the slower one."""
    return x.device.type == "cpu" and x.numel() <= 40_000


LINEAR: dict[type, Callable[[Any], tuple[Forth, Back]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _transposed,
    nn.Unflatten: _unflatten,
}
ACTIVATIONS: dict[type, Callable[[Any], tuple[Forth, Back]]] = {
    nn.LeakyReLU: _leaky_relu,
    nn.GELU: _gelu,
    nn.Tanh: _tanh,
}
"""By exact type: a subclass may do something else."""
