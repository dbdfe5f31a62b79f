"""Gradients that are written out equal autograd's."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from pipeline.batch import Spec
from pipeline.energies.energy import autograd_gradient, gaussian, gradient, tilt
from pipeline.nets.bfloat16 import cast_products
from pipeline.nets.conv import PIECE, ConvEnergy
from pipeline.nets.generator import ReconstructionEnergy, build_decoder
from pipeline.nets.input_gradient import input_gradient
from pipeline.nets.mlp import MLPEnergy
from pipeline.nets.nonlocal_conv import NonLocalEnergy
from pipeline.precision import at_precision
from pipeline.rng import generator, seeded
from pipeline.samplers.langevin import Langevin


def mlp(widths, leaky_slope=0.2):
    with seeded(0):
        return MLPEnergy(6, widths, leaky_slope)


def conv(shape, width=4, leaky_slope=0.2):
    with seeded(0):
        return ConvEnergy(shape, width, leaky_slope)


def with_activation(net, activation):
    """The network with another activation between its layers."""
    for i, layer in enumerate(net):
        if isinstance(layer, nn.LeakyReLU):
            net[i] = activation
    return net


def draw(*shape):
    return torch.randn(*shape, generator=generator(1))


def check(net, x):
    """The gradient equals autograd's, has no graph, and leaves x and the parameters unchanged."""
    before = x.clone()
    exact = autograd_gradient(net, x)
    with torch.no_grad():
        slope = gradient(net)(x)
    scale = exact.abs().max()
    assert scale > 0
    assert slope.dtype == x.dtype
    assert not slope.requires_grad
    assert torch.equal(x, before)
    assert all(p.grad is None for p in net.parameters())
    torch.testing.assert_close(slope / scale, exact / scale, atol=1e-5, rtol=0)


ACTIVATIONS = [nn.LeakyReLU(0.0), nn.LeakyReLU(0.2), nn.GELU(), nn.Tanh()]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("widths", [(5,), (8, 3), (4, 8, 8, 8)], ids=repr)
def test_gradient_of_an_mlp(widths, activation):
    net = with_activation(mlp(widths), activation)
    assert input_gradient(net)
    check(net, draw(9, 6))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize(("shape", "n"), [((1, 8, 8), 5), ((3, 32, 32), 2), ((3, 12, 9), 2 * PIECE + 1)])
def test_gradient_of_a_convnet(shape, n, activation):
    net = with_activation(conv(shape), activation)
    assert input_gradient(net)
    check(net, draw(n, *shape))
    check(net, draw(n, *shape).contiguous(memory_format=torch.channels_last))


def test_gradient_of_a_tilted_network():
    net, x = mlp((8, 8)), draw(9, 6)
    with torch.no_grad():
        torch.testing.assert_close(gradient(tilt(net, gaussian(0.5)))(x), autograd_gradient(net, x) + 4 * x)


@pytest.mark.parametrize("other", [nn.LeakyReLU(-0.5), nn.GELU("tanh"), nn.SiLU(), nn.Dropout(0.0)], ids=repr)
def test_autograd_takes_over_for_an_unknown_layer(other):
    for net, x in ((mlp((8, 8)), draw(9, 6)), (conv((1, 8, 8)), draw(3, 1, 8, 8))):
        assert input_gradient(with_activation(net, other)) is None
        check(net, x)


@pytest.mark.parametrize("second", [nn.LeakyReLU(0.2), nn.Tanh(), nn.GELU()], ids=repr)
def test_autograd_takes_over_where_an_activation_would_overwrite_another(second):
    net = mlp((8,))
    net.insert(1, nn.Tanh())
    net[2] = second
    assert input_gradient(net) is None
    check(net, draw(9, 6))


def test_autograd_takes_over_for_a_convolution_with_other_padding():
    net = conv((1, 8, 8))
    net[0].padding_mode = "circular"
    assert input_gradient(net) is None


def test_a_subclass_may_compute_something_else():
    class Squared(MLPEnergy):
        def forward(self, x):
            return super().forward(x).square()

    class Halved(ConvEnergy):
        def forward(self, x):
            return super().forward(x) / 2

    with seeded(0):
        check(Squared(6, (8,), 0.2), draw(9, 6))
        check(Halved((1, 8, 8), 4, 0.2), draw(3, 1, 8, 8))


def test_another_network_uses_autograd():
    with seeded(0):
        check(NonLocalEnergy((1, 8, 8), 2, 0.2), draw(3, 1, 8, 8))


def test_chains_end_where_those_by_autograd_end():
    for net, x in ((mlp((8, 8)), draw(9, 6)), (conv((1, 8, 8)), draw(3, 1, 8, 8))):
        energy, sampler = tilt(net, gaussian()), Langevin(10, 0.05, 0.3)
        with torch.no_grad():
            ours, stats = sampler(energy, x, generator(0))
            by_graph, others = sampler(lambda x, energy=energy: energy(x), x, generator(0))
        torch.testing.assert_close(ours, by_graph, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(stats.grad_norm, others.grad_norm, atol=1e-5, rtol=1e-5)


def reconstruction(items):
    with seeded(0):
        return ReconstructionEnergy({"x": items}, build_decoder("conv", 6, Spec("image", (1, 8, 8), 0), 4, 0.2), 0.3)


@pytest.mark.parametrize("what", ["conv", "mlp", "generator"])
def test_it_is_written_out_in_bfloat16_for_networks_that_are_cast_and_autograds_for_others(what):
    x = draw(5, 1, 8, 8) if what == "conv" else draw(5, 6)
    energy = {"conv": conv((1, 8, 8)), "mlp": mlp((8, 3)), "generator": reconstruction(draw(5, 1, 8, 8))}[what]
    if what == "generator":
        rounded = replace(energy, decoder=cast_products({"net": energy.decoder})["net"])
    else:
        rounded = cast_products({"net": energy})["net"]
    with at_precision("bf16", "cpu"), torch.no_grad():
        by_autograd, own = autograd_gradient(energy, x), gradient(rounded)
        assert isinstance(gradient(energy), partial)
        assert not isinstance(own, partial)
        slope = own(x)
    assert slope.dtype == torch.float32
    assert not torch.equal(by_autograd, autograd_gradient(energy, x))  # which is not rounded
    scale = by_autograd.abs().max()
    torch.testing.assert_close(slope / scale, by_autograd / scale, atol=0.02, rtol=0)
