import pytest
import torch

from pipeline.batch import Spec
from pipeline.nets.energy_with_constant import EnergyWithConstant
from pipeline.rng import generator, seeded


@pytest.fixture(params=[Spec("image", (1, 8, 8), 4), Spec("image", (3, 8, 8), 4), Spec("vector", (5,), 4)])
def spec(request):
    return request.param


def net_and_data(spec, classes):
    with seeded(0):
        net = EnergyWithConstant(spec, classes, 8, 0.2)
    return net, torch.randn(6, *spec.shape, generator=generator(1))


@pytest.mark.parametrize("classes", [0, 4])
def test_the_constant_is_added_to_every_energy(spec, classes):
    net, x = net_and_data(spec, classes)
    before = net(x)
    assert before.shape == (6,)
    assert net.constant.item() == 0
    with torch.no_grad():
        net.constant += 2.5
    torch.testing.assert_close(net(x), before + 2.5)
    (slope,) = torch.autograd.grad(net(x).sum(), net.constant)
    assert slope.item() == 6


def test_the_energy_sums_over_all_classes(spec):
    net, x = net_and_data(spec, 4)
    heads = net.heads(x)
    assert heads.shape == (6, 4)
    joint = (heads - net.constant).exp()  # p(x, k)
    torch.testing.assert_close((-net(x)).exp(), joint.sum(1))
    torch.testing.assert_close(heads.softmax(1), joint / (-net(x)).exp()[:, None])


def test_without_classes_the_energy_is_the_network_plus_the_constant(spec):
    net, x = net_and_data(spec, 0)
    assert torch.equal(net(x), net.net(x))
