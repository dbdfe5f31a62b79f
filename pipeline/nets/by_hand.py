"""The gradient of a chain of layers by its input, layer by layer and without autograd's graph.

What is saved: activations are computed in place, nothing is recorded or looked up, and gradients are overwritten.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

aten = torch.ops.aten


def known(layers: nn.Sequential) -> bool:
    """Whether `by_hand` knows all of the layers."""
    return all(type(layer) in RULES for layer in layers)


def by_hand(layers: nn.Sequential, x: Tensor) -> Tensor:
    """The gradient by x (n, *d) of the sum of all that `layers` make of it, under `no_grad`; x is left as it is.

    Raises:
        KeyError: a layer is not `known`.
    """
    kept: list[Tensor] = []
    for layer in layers:
        kept.append(x)
        if isinstance(layer, nn.LeakyReLU) and layer.negative_slope >= 0 and len(kept) > 1:
            # its gradient needs the sign of what goes in, which is that of what comes out
            nn.functional.leaky_relu_(x, layer.negative_slope)
        else:
            x = layer(x)
    back = torch.ones_like(x)
    for layer, seen in zip(reversed(list(layers)), reversed(kept), strict=True):
        back = RULES[type(layer)](layer, back, seen)
    return back


def _linear(layer: nn.Linear, back: Tensor, seen: Tensor) -> Tensor:
    return back @ layer.weight


def _conv(layer: nn.Conv2d, back: Tensor, seen: Tensor) -> Tensor:
    strides, padding, dilation = layer.stride, layer.padding, layer.dilation
    only_input = [True, False, False]
    found: tuple[Tensor, ...] = aten.convolution_backward(
        back, seen, layer.weight, None, strides, padding, dilation, False, [0, 0], layer.groups, only_input
    )
    return found[0]


def _leaky_relu(layer: nn.LeakyReLU, back: Tensor, seen: Tensor) -> Tensor:
    return aten.leaky_relu_backward.grad_input(back, seen, layer.negative_slope, False, grad_input=back)


def _gelu(layer: nn.GELU, back: Tensor, seen: Tensor) -> Tensor:
    return aten.gelu_backward.grad_input(back, seen, approximate=layer.approximate, grad_input=back)


RULES: dict[type, Callable[..., Tensor]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.LeakyReLU: _leaky_relu,
    nn.GELU: _gelu,
}
"""From a layer, the gradient by its output, and its input, the gradient by its input. Exact types: a subclass may do
other things."""
