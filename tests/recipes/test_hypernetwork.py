"""What the hypernetwork's loss is made of, and what lambda and the gauge do to what it learns."""

import math
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from pipeline.batch import LABELLED, Spec
from pipeline.data.dataset import Dataset
from pipeline.energies.entropy import nearest_neighbour_entropy
from pipeline.library import fit
from pipeline.nets.classifier import ClassifierSettings, to_layers
from pipeline.nets.gauge import fix_gauge
from pipeline.nets.hypernetwork import HypernetworkSettings, hypernetwork_of
from pipeline.recipes.hypernetwork import HypernetworkEnsemble
from pipeline.rng import generator, initial_noise, seeded, standard_normal

SPEC = Spec("image", (1, 4, 4), 3)
RECIPE = HypernetworkEnsemble(
    batch_size=10,
    members=4,
    classifier=ClassifierSettings(widths=(6,)),
    hypernetwork=HypernetworkSettings(5, 3, extractor_widths=(8,), generator_widths=(8,)),
)


def nets_of(recipe):
    with seeded(0):
        nets = recipe.nets(SPEC)
    hypernetwork_of(nets).center.fill_(0.3)
    return nets


@pytest.mark.parametrize("gauge", ["full", "paper", "none"])
def test_the_loss_is_that_of_each_classifier_alone_and_the_entropy_of_all(gauge):
    """Item i goes to classifier i mod 4; where items do not suffice, the first ones go twice."""
    recipe, nets = replace(RECIPE, gauge=gauge), nets_of(RECIPE)
    net, x = hypernetwork_of(nets), standard_normal((10, *SPEC.shape), generator(1))
    label = torch.arange(10) % 3
    losses, metrics = recipe.losses(nets, {LABELLED: {"x": x, "label": label}}, {}, generator(2), 0)
    w = net(initial_noise("uniform", (4, 5), generator(2)))
    alone, own = net.classifier.to_empty(device="cpu"), []
    for m in range(4):
        index = [i % 10 for i in range(12) if i % 4 == m]
        member = {name: value[m] for name, value in to_layers(net.classifier, w).items()}
        own.append(cross_entropy(functional_call(alone, member, (x[index] - 0.3,)), label[index]))
    entropy = nearest_neighbour_entropy(fix_gauge(net.classifier, w, gauge), 5)
    assert metrics["cross_entropy"].item() == pytest.approx(torch.stack(own).mean().item(), rel=1e-5)
    assert metrics["entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert losses["hypernetwork"].item() == pytest.approx(
        300 * torch.stack(own).mean().item() - entropy.item(), rel=1e-5
    )


def test_only_without_a_gauge_does_the_scale_of_logits_raise_the_entropy_of_a_linear_classifier():
    recipe = replace(RECIPE, classifier=ClassifierSettings(widths=()))
    net = hypernetwork_of(nets_of(recipe))
    w = net(initial_noise("uniform", (20, 5), generator(0)))
    for gauge, rise in (("none", 5 * math.log(10)), ("full", 0.0)):
        now, scaled = (
            nearest_neighbour_entropy(fix_gauge(net.classifier, factor * w, gauge), 5).item() for factor in (1, 10)
        )
        assert scaled - now == pytest.approx(rise, abs=1e-3)


def test_items_without_a_label_have_no_metrics():
    items = {"x": torch.zeros(3, *SPEC.shape)}
    assert RECIPE.item_metrics(nets_of(RECIPE), {LABELLED: items}, {}, generator(0)) == {}
    some = RECIPE.item_metrics(
        nets_of(RECIPE), {LABELLED: {**items, "label": torch.tensor([0, -1, 2])}}, {}, generator(0)
    )
    assert {name: len(values) for name, values in some.items()} == dict.fromkeys(
        ["accuracy", "cross_entropy", "member_accuracy", "member_cross_entropy"], 2
    )


@pytest.fixture(scope="module")
def three_classes():
    """Vectors about one of three points, close enough to be mistaken."""
    label = torch.arange(300) % 3
    centre = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]])
    x = centre[label] + 0.3 * standard_normal((300, 2), generator(0))
    return Dataset.from_arrays(x.numpy(), label.numpy())


def learn(data, **settings):
    """Entropy in the full gauge, and accuracy, of what is learned in a few updates."""
    recipe = replace(RECIPE, batch_size=64, members=8, lr=1e-2, **settings)
    model = fit(recipe, data, 80, lanes=1, progress=False)
    net, items = hypernetwork_of(model.nets), data.batch(torch.arange(300).numpy())
    with torch.no_grad():
        w = net(initial_noise("uniform", (100, 5), generator(3)))
        fixed = fix_gauge(net.classifier, w, "full")
        right = (net.logits(w, items["x"]).argmax(2) == items["label"]).float().mean().item()
        return nearest_neighbour_entropy(fixed, 5).item(), right


def test_a_larger_lambda_is_more_accurate_and_less_diverse(three_classes):
    diverse, accurate = learn(three_classes, accuracy_weight=1.0), learn(three_classes, accuracy_weight=1000.0)
    assert diverse[0] > accurate[0] + 1
    assert accurate[1] > max(0.95, diverse[1])
