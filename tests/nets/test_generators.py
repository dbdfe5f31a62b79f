"""Generators, and the gradient of their reconstruction error."""

import pytest
import torch

from pipeline.batch import Spec
from pipeline.energies.energy import autograd_gradient, gradient
from pipeline.nets.generator import ReconstructionEnergy, build_decoder
from pipeline.nets.input_gradient import layer_passes
from pipeline.nets.layered import LayeredGenerator
from pipeline.rng import generator, seeded

VECTORS, SMALL, WIDE = Spec("vector", (7,), 0), Spec("image", (1, 8, 8), 0), Spec("image", (3, 16, 24), 0)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=generator(seed))


def check(net, spec, hidden):
    z, items = draw(6, 5), {"x": draw(6, *spec.shape, seed=2)}
    if hidden:
        items["observed"] = (draw(6, *spec.shape, seed=3) > 0).float()
    energy = ReconstructionEnergy(items, net, 0.3)
    exact, copies = autograd_gradient(energy, z), {name: value.clone() for name, value in items.items()}
    with torch.no_grad():
        own_gradient = gradient(energy)
        twice = [own_gradient(z), own_gradient(z)]
    assert torch.equal(*twice)
    assert not twice[0].requires_grad
    assert all(torch.equal(items[name], copy) for name, copy in copies.items())
    torch.testing.assert_close(twice[0] / exact.abs().max(), exact / exact.abs().max(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("kind", "spec"), [("mlp", VECTORS), ("mlp", SMALL), ("conv", SMALL), ("conv", WIDE)], ids=lambda value: str(value)
)
def test_the_gradient_that_is_written_out_is_autograds(kind, spec, hidden):
    with seeded(0):
        net = build_decoder(kind, 5, spec, 6, 0.2)
    assert layer_passes(net)
    check(net, spec, hidden)


def test_the_gradient_through_any_other_generator_is_autograds():
    with seeded(0):
        check(LayeredGenerator((3, 2), SMALL, 6, 0.2), SMALL, True)
        check(build_decoder("mlp", 5, SMALL, 6, -0.2), SMALL, False)  # whose activation does not keep the sign
