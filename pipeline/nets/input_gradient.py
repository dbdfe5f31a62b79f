"""The gradient of a chain of layers with respect to its input, written out.

It is faster than autograd: no graph is recorded or walked, activations are computed in place, gradients overwrite
them, what both passes need of an activation is computed once, and the gradient through the last layer, which is
constant, is not computed again.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, leaky_relu_

from pipeline.energies.energy import Gradient

LayerForward: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps a layer's input to its output and to what the backward pass needs. An activation overwrites its input."""
LayerBackward: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Maps the gradient by the output, and what was saved, which it may overwrite, to the gradient by the input."""
Forward: TypeAlias = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
"""`LayerForward` of several layers."""
Backward: TypeAlias = Callable[[Tensor, list[Tensor]], Tensor]
"""`LayerBackward` of several layers."""

aten = torch.ops.aten


def input_gradient(net: nn.Sequential) -> Gradient | None:
    """The gradient by x (n, *d) of the sum of the outputs of `net`, computed in the weights' type.

    None for a network that `layer_passes` does not know, and where the last layer is neither linear nor a convolution.
    A last convolution must have a kernel of its input's size.
    """
    *inner, last = net
    passes = layer_passes(inner) if type(last) in (nn.Linear, nn.Conv2d) else None
    if passes is None:
        return None
    forward, backward = passes
    weight = cast(nn.Linear | nn.Conv2d, last).weight.detach()
    slope = weight.sum(0).to(weight.dtype)  # autocast sums in float32

    def gradient(x: Tensor) -> Tensor:
        features, saved = forward(x.to(weight.dtype))
        return backward(slope.expand_as(features), saved).to(x.dtype)

    return gradient


def layer_passes(layers: Iterable[nn.Module]) -> tuple[Forward, Backward] | None:
    """The forward and the backward pass through a chain of layers, for use under `no_grad`, in the weights' type.

    None where a layer is not known here, where an activation, which overwrites its input, comes first or directly after
    another one, and where autocast would compute in another type.
    """
    chain = list(layers)
    if any(_is_cast(p) for layer in chain for p in layer.parameters()):
        return None
    kinds = [nn.Tanh, *(type(layer) for layer in chain if type(layer) is not nn.Unflatten)]
    if any(a in ACTIVATIONS and b in ACTIVATIONS for a, b in pairwise(kinds)) or not all(map(_is_known, chain)):
        return None
    passes = [(LINEAR | ACTIVATIONS)[type(layer)](layer) for layer in chain]

    def forward(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        saved = []
        for layer_forward, _ in passes:
            x, of_layer = layer_forward(x)
            saved.append(of_layer)
        return x, saved

    def backward(slope: Tensor, saved: list[Tensor]) -> Tensor:
        for _, layer_backward in reversed(passes):
            slope = layer_backward(slope, saved.pop())
        return slope

    return forward, backward


def _is_cast(p: Tensor) -> bool:
    device_type = p.device.type
    return torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) != p.dtype


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


def _linear(layer: nn.Linear) -> tuple[LayerForward, LayerBackward]:
    weight, transposed = layer.weight, layer.weight.t().contiguous()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
    return lambda x: (torch.addmm(bias, x, transposed), x), lambda slope, _: torch.mm(slope, weight)


def _conv(layer: nn.Conv2d) -> tuple[LayerForward, LayerBackward]:
    settings = (layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups)
    input_only = [True, False, False]  # no gradients by weight and bias

    def backward(slope: Tensor, x: Tensor) -> Tensor:
        gradients: tuple[Tensor, ...] = aten.convolution_backward(slope, x, layer.weight, None, *settings, input_only)
        return gradients[0]

    return lambda x: (layer(x), x), backward


def _conv_transpose(layer: nn.ConvTranspose2d) -> tuple[LayerForward, LayerBackward]:
    padding = cast(tuple[int, int], layer.padding)
    settings = (None, layer.stride, padding, layer.dilation, layer.groups)
    return lambda x: (layer(x), x), lambda slope, _: conv2d(slope, layer.weight, *settings)


def _unflatten(layer: nn.Unflatten) -> tuple[LayerForward, LayerBackward]:
    return lambda x: (layer(x), x), lambda slope, _: slope.flatten(1)


def _tanh(layer: nn.Tanh) -> tuple[LayerForward, LayerBackward]:
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        x.tanh_()
        return x, x

    return forward, lambda slope, output: aten.tanh_backward.grad_input(slope, output, grad_input=output)


def _leaky_relu(layer: nn.LeakyReLU) -> tuple[LayerForward, LayerBackward]:
    """The gradient depends on the sign of the input, which is also the sign of the output."""
    negative_slope = layer.negative_slope

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        leaky_relu_(x, negative_slope)
        return x, x

    def backward(slope: Tensor, output: Tensor) -> Tensor:
        return aten.leaky_relu_backward.grad_input(slope, output, negative_slope, False, grad_input=output)

    return forward, backward


def _gelu(layer: nn.GELU) -> tuple[LayerForward, LayerBackward]:
    """x Phi(x); for few numbers on a CPU its derivative Phi(x) + x phi(x) comes from the same erf."""
    half, root, density = torch.tensor(0.5), torch.tensor(0.5).sqrt(), 1 / math.sqrt(2 * math.pi)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        if not _is_small(x):
            return gelu(x), x
        scaled = x * root
        bell = torch.square(scaled).neg_().exp_()
        cdf = torch.add(half, scaled.erf_(), alpha=0.5)
        derivative = torch.addcmul(cdf, x, bell, value=density)
        return cdf.mul_(x), derivative

    def backward(slope: Tensor, saved: Tensor) -> Tensor:
        return saved.mul_(slope) if _is_small(saved) else aten.gelu_backward.grad_input(slope, saved, grad_input=saved)

    return forward, backward


def _is_small(x: Tensor) -> bool:
    """Whether torch's own GELU, which computes erf twice and has a larger overhead, would be slower."""
    return x.device.type == "cpu" and x.numel() <= 40_000


LINEAR: dict[type, Callable[[Any], tuple[LayerForward, LayerBackward]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv_transpose,
    nn.Unflatten: _unflatten,
}
"""By exact type, since a subclass may compute something else."""
ACTIVATIONS: dict[type, Callable[[Any], tuple[LayerForward, LayerBackward]]] = {
    nn.LeakyReLU: _leaky_relu,
    nn.GELU: _gelu,
    nn.Tanh: _tanh,
}
"""By exact type."""
