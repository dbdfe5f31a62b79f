"""Gauge fixing: the classifier stays as it is, and distances do not depend on rescalings."""

import numpy as np
import pytest
import torch

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.nets.classifier import ClassifierSettings, build_classifier, member_logits, to_layers, to_members
from pipeline.nets.gauge import fix_gauge
from pipeline.rng import generator, standard_normal

VECTORS, IMAGES = Spec("vector", (5,), 3), Spec("image", (2, 8, 8), 4)
CLASSIFIERS = {
    "fully connected": (VECTORS, ("chain", (), (6, 4))),
    "linear": (VECTORS, ("chain", (), ())),
    "convolutions": (IMAGES, ("chain", (3, 2), (5,))),
    "convolutions alone": (IMAGES, ("chain", (3,), ())),
    "resnet32": (IMAGES, ("resnet32", (), ())),
}


@pytest.fixture(params=CLASSIFIERS)
def members(request):
    """A classifier, in double precision the weights of three members, and items."""
    spec, settings = CLASSIFIERS[request.param]
    net = build_classifier(ClassifierSettings(*settings), spec)
    w = 0.3 * standard_normal((3, net.size), generator(0)).double()
    return net, w, standard_normal((7, *spec.shape), generator(1)).double()


def rescale(net, w, seed):
    """Divide every unit by a factor where it is computed, and multiply it by the same where it is read: by hand."""
    layers, rng = {k: v.clone() for k, v in to_layers(net, w).items()}, np.random.default_rng(seed)
    for one in net.rescalings:
        writers = (one.layer, *one.writers)
        for member in range(len(w)):
            for unit in range(one.first, layers[f"{one.layer}.bias"].shape[1]):
                factor = float(np.exp(rng.normal()))
                for name in writers:
                    layers[f"{name}.weight"][member, unit] /= factor
                    layers[f"{name}.bias"][member, unit] /= factor
                for name in one.readers:
                    weight = layers[f"{name}.weight"]
                    pixels = weight.shape[2] // layers[f"{writers[-1]}.bias"].shape[1] if weight.dim() == 3 else 1
                    weight[member, :, unit * pixels : (unit + 1) * pixels] *= factor
    return to_members(layers)


def shift(net, w):
    """Add a number to all logits, which may depend on what the last layer reads."""
    layers = {k: v.clone() for k, v in to_layers(net, w).items()}
    layers["head.weight"] += standard_normal((3, 1, layers["head.weight"].shape[2]), generator(5))
    layers["head.bias"] += standard_normal((3, 1), generator(6))
    return to_members(layers)


def test_rescalings_are_symmetries(members):
    net, w, x = members
    logits = member_logits(net, w, x)
    assert torch.allclose(member_logits(net, rescale(net, w, 2), x), logits)
    shifted = member_logits(net, shift(net, w), x)
    assert torch.allclose(shifted.softmax(2), logits.softmax(2))
    assert not torch.allclose(shifted, logits)


def test_the_papers_gauge_leaves_probabilities_and_the_full_gauge_logits_up_to_shift_and_scale(members):
    net, w, x = members
    logits = member_logits(net, w, x)
    paper = member_logits(net, fix_gauge(net, w, "paper"), x)
    assert torch.allclose(paper.softmax(2), logits.softmax(2))
    full = member_logits(net, fix_gauge(net, w, "full"), x)
    centred = logits - logits.mean(2, keepdim=True)
    scale = (centred * full).sum((1, 2)) / full.square().sum((1, 2))
    assert (scale > 0).all()
    assert torch.allclose(scale[:, None, None] * full, centred)
    assert fix_gauge(net, w, "none") is w


@pytest.mark.parametrize("gauge", ["full", "paper"])
def test_distances_do_not_depend_on_rescalings(members, gauge):
    net, w, _ = members
    fixed, again = fix_gauge(net, w, gauge), fix_gauge(net, rescale(net, w, 3), gauge)
    assert torch.allclose(torch.cdist(fixed, fixed, p=1.0), torch.cdist(again, again, p=1.0))
    assert torch.allclose(fixed, again)
    assert torch.allclose(fix_gauge(net, fixed, gauge), fixed)


def test_the_full_gauge_removes_shifts_and_the_scale_of_logits_too(members):
    net, w, _ = members
    layers = to_layers(net, shift(net, w))
    layers |= {name: 7.5 * layers[name] for name in ("head.weight", "head.bias")}
    assert torch.allclose(fix_gauge(net, to_members(layers), "full"), fix_gauge(net, w, "full"))
    assert not torch.allclose(fix_gauge(net, to_members(layers), "paper"), fix_gauge(net, w, "paper"))


def test_hidden_units_have_mean_square_1(members):
    net, w, _ = members
    layers = to_layers(net, fix_gauge(net, w, "full"))
    for one in net.rescalings:
        weight, bias = layers[f"{one.layer}.weight"].flatten(2), layers[f"{one.layer}.bias"]
        rows = torch.cat([weight, bias[:, :, None]], 2)[:, one.first :]
        assert torch.allclose(rows.square().mean(2), torch.ones(rows.shape[:2]).double())


def test_members_at_once_are_members_one_by_one(members):
    """vmap of a functional call, against the module itself with its weights loaded."""
    net, w, x = members
    together = member_logits(net, w, x)
    own = member_logits(net, w, torch.stack([x, 2 * x, -x]), own=True)
    for i, factor in enumerate((1, 2, -1)):
        alone = net.to_empty(device="cpu").double()
        alone.load_state_dict({name: value[i] for name, value in to_layers(net, w).items()})
        assert torch.allclose(together[i], alone(x))
        assert torch.allclose(own[i], alone(factor * x))


def test_the_paper_classifier_of_mnist_has_20018_weights():
    net = build_classifier(ClassifierSettings(channels=(32, 16)), Spec("image", (1, 28, 28), 10))
    counts = [layer.weight.numel() + layer.bias.numel() for layer in net.layers.values()]
    assert (counts, net.size) == ([832, 12_816, 6280, 90], 20_018)


def test_resnet32_has_its_layers_and_its_weights_the_usual_number():
    net = build_classifier(ClassifierSettings("resnet32"), Spec("image", (3, 32, 32), 10))
    assert len(net.layers) == 32
    convolutions = sum(layer.weight.numel() for name, layer in net.layers.items() if name != "head")
    assert convolutions == 27 * 16 + 10 * 9 * 16**2 + 9 * 16 * 32 + 9 * 9 * 32**2 + 9 * 32 * 64 + 9 * 9 * 64**2


def test_data_that_no_classifier_fits_are_refused():
    with pytest.raises(InputError, match="labels of two classes or more"):
        build_classifier(ClassifierSettings(), Spec("vector", (2,), 0))
    with pytest.raises(InputError, match="too small to pool so often"):
        build_classifier(ClassifierSettings(channels=(3,)), VECTORS)
    with pytest.raises(InputError, match="needs images"):
        build_classifier(ClassifierSettings("resnet32"), VECTORS)
