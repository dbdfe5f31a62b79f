"""Flow contrastive estimation: the value, its gradients, which network learns, and the constant."""

import math
from dataclasses import replace

import pytest
import torch
from running import CPU
from torch import nn

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.nets.energy_with_constant import EnergyWithConstant
from pipeline.nets.flow import FlowSettings, flow_energy, sample_with_energy
from pipeline.recipe import init_networks
from pipeline.recipes.flow_contrastive import FlowContrastive
from pipeline.rng import generator, seeded

PLANE = Spec("vector", (2,), 0)
FCE = FlowContrastive(flow=FlowSettings(family="affine", couplings=2, hidden=4), batch_size=100, width=8)
NCE = replace(FCE, flow=FlowSettings(family="gaussian"))


class Quadratic(nn.Module):
    """U = sum exp(log_precision) x^2 / 2, and a constant."""

    def __init__(self):
        super().__init__()
        self.log_precision, self.constant = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return (self.log_precision.exp() * x.square()).sum(1) / 2 + self.constant


class Perfect(nn.Module):
    """-log q of the flow, and a constant of 0."""

    def __init__(self, flow):
        super().__init__()
        self.of, self.constant = flow_energy(flow), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.of(x) + self.constant


@pytest.fixture
def double_precision():
    """Double precision as the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def nets_of(recipe, spec=PLANE):
    """The recipe's networks, perturbed."""
    nets = init_networks(recipe, spec, 0, CPU)
    with seeded(1), torch.no_grad():
        for net in nets.values():
            for p in net.parameters():
                p.add_(0.2 * torch.randn_like(p))
    return nets


def losses(recipe, nets, x, seed=0, **others):
    batch = {"data": {"x": x, **others}}
    return recipe.losses(nets, batch, {}, generator(seed), 0)


def data(n, spec=PLANE, seed=5):
    return torch.randn(n, *spec.shape, generator=generator(seed))


def test_with_a_perfect_energy_the_value_is_minus_log_4():
    nets = nets_of(FCE)
    nets["energy"] = Perfect(nets["flow"])
    values, metrics = losses(FCE, nets, data(200))
    assert float(metrics["value"].detach()) == pytest.approx(-math.log(4), abs=1e-5)
    assert metrics["log_ratio"].abs() < 1e-5
    assert float(values["energy"].detach()) == -float(values["flow"].detach())
    for p in torch.autograd.grad(values["energy"], nets["energy"].constant):
        assert p.abs() < 1e-5  # c would not change either


def test_half_of_the_flows_own_samples_are_classified_correctly_by_any_energy():
    nets, n = nets_of(FCE), 20_000
    with torch.no_grad():
        own = nets["flow"](data(n))
        _, metrics = losses(FCE, nets, own)
    assert abs(metrics["discriminator_accuracy"] - 0.5) < 4 * 0.5 / (2 * n) ** 0.5


def test_the_value_is_that_of_its_equation():
    nets, x = nets_of(FCE), data(50)
    _, metrics = losses(FCE, nets, x, seed=3)
    samples, _ = sample_with_energy(nets["flow"], torch.randn(50, 2, generator=generator(3)))
    p, q = (lambda x: (-nets["energy"](x)).exp()), (lambda x: (-flow_energy(nets["flow"])(x)).exp())
    value = (p(x) / (p(x) + q(x))).log().mean() + (q(samples) / (p(samples) + q(samples))).log().mean()
    torch.testing.assert_close(metrics["value"], value)
    right = torch.cat([p(x) > q(x), p(samples) < q(samples)]).float().mean()
    torch.testing.assert_close(metrics["discriminator_accuracy"], right)
    assert metrics["constant"] is nets["energy"].constant


def test_the_flows_gradient_goes_through_its_samples_and_its_density(double_precision):
    nets, x = nets_of(FCE), data(20)
    parameters = list(nets["flow"].parameters())
    values, _ = losses(FCE, nets, x)
    gradient = torch.autograd.grad(values["flow"], parameters)
    step, rng = 1e-6, generator(9)
    for _ in range(8):
        direction = [torch.randn(p.shape, generator=rng) for p in parameters]
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, v in zip(parameters, direction, strict=True):
                    p.add_(sign * step * v)
                ends.append(losses(FCE, nets, x)[0]["flow"].item())
                for p, v in zip(parameters, direction, strict=True):
                    p.sub_(sign * step * v)
        along = sum((g * v).sum() for g, v in zip(gradient, direction, strict=True)).item()
        assert along == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)
        assert abs(along) > 1e-4


@pytest.mark.parametrize(
    ("recipe", "metrics", "learner"),
    [
        (FCE, {}, "energy"),
        (FCE, {"discriminator_accuracy": 0.54}, "energy"),
        (FCE, {"discriminator_accuracy": 0.56}, "flow"),
        (replace(FCE, threshold=0.6), {"discriminator_accuracy": 0.56}, "energy"),
        (NCE, {"discriminator_accuracy": 1.0}, "energy"),
    ],
)
def test_which_network_learns(recipe, metrics, learner):
    assert recipe.learning_rate_factors(0, metrics) == {learner: 1.0}
    assert replace(recipe, lr_decay=0.9).learning_rate_factors(7, metrics) == {learner: pytest.approx(0.9**7)}


@pytest.mark.parametrize(
    ("recipe", "spec"),
    [(FCE, PLANE), (NCE, PLANE), (replace(FCE, flow=FlowSettings(couplings=1, hidden=4)), Spec("image", (1, 8, 8), 0))],
)
def test_the_constant_starts_where_the_log_ratio_is_zero_on_samples(recipe, spec):
    nets = nets_of(recipe, spec)
    x = data(500, spec).clamp(-1, 1)
    recipe.data_dependent_init(nets, {"data": {"x": x}}, generator(0), frozenset())
    with torch.no_grad():
        samples, base = sample_with_energy(nets["flow"], torch.randn(4000, spec.size, generator=generator(8)))
        r = base - nets["energy"](samples)
    assert abs(r.mean()) < 4 * r.std() * (1 / 4000 + 1 / 1000) ** 0.5


def test_a_pretrained_constant_does_not_change():
    nets = nets_of(FCE)
    before = nets["energy"].constant.clone()
    FCE.data_dependent_init(nets, {"data": {"x": data(50)}}, generator(0), frozenset({"energy"}))
    assert torch.equal(nets["energy"].constant, before)


def test_noise_contrastive_estimation_learns_the_normaliser():
    recipe = replace(NCE, energy_lr=0.1, constant_lr=0.1, lr_decay=0.98, batch_size=1000)
    nets = {**nets_of(recipe), "energy": Quadratic()}
    optimizer, sd = recipe.optimizers(nets)["energy"], torch.tensor([0.6, 1.2])
    initial = [group["lr"] for group in optimizer.param_groups]
    for update in range(200):
        values, _ = losses(recipe, nets, sd * data(1000, seed=100 + update), seed=update)
        optimizer.zero_grad()
        values["energy"].backward()
        for group, rate in zip(optimizer.param_groups, initial, strict=True):
            group["lr"] = rate * recipe.learning_rate_factors(update, {})["energy"]
        optimizer.step()
    log_z = math.log(2 * math.pi * 0.6 * 1.2)
    assert nets["energy"].constant.item() == pytest.approx(log_z, abs=0.03)
    assert (-nets["energy"].log_precision / 2).exp().tolist() == pytest.approx(sd.tolist(), rel=0.03)


def test_the_constant_has_its_own_rate_and_a_gaussian_flow_no_optimizer():
    recipe = replace(FCE, energy_lr=0.1, constant_lr=0.2, flow_lr=0.3)
    nets = nets_of(recipe)
    others, own = recipe.optimizers(nets)["energy"].param_groups
    assert own["params"] == [nets["energy"].constant]
    assert (own["lr"], others["lr"]) == (0.2, 0.1)
    assert own["weight_decay"] == 0
    assert len(others["params"]) == len(list(nets["energy"].parameters())) - 1
    assert [group["lr"] for group in recipe.optimizers(nets)["flow"].param_groups] == [0.3]
    assert set(NCE.optimizers(nets_of(NCE))) == {"energy"}


def test_labels_add_their_cross_entropy():
    spec = Spec("vector", (2,), 3)
    recipe = replace(FCE, labelled_batch_size=6, label_weight=2.0)
    nets, x, label = nets_of(recipe, spec), data(20), torch.tensor([0, 1, 2, 2, 1, 0])
    items = {"x": data(6, seed=6), "label": label}
    values, metrics = recipe.losses(nets, {"data": {"x": x}, "labelled": items}, {}, generator(0), 0)
    entropy = -nets["energy"].heads(items["x"]).log_softmax(1)[torch.arange(6), label].mean()
    torch.testing.assert_close(metrics["cross_entropy"], entropy)
    torch.testing.assert_close(values["energy"], -values["flow"] + 2 * entropy)
    assert isinstance(nets["energy"], EnergyWithConstant)
    with pytest.raises(InputError, match="labelled_batch_size=6: the data have no labels"):
        recipe.nets(PLANE)
