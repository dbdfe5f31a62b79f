"""Ensembles: their accuracy, how members differ, paths between them, and classifiers that learn on their own."""

import doctest

import pytest
import torch

from pipeline.batch import Spec
from pipeline.evaluation.metrics import ensembles
from pipeline.evaluation.metrics.direct_training import DirectTraining, train_directly
from pipeline.nets.classifier import ClassifierSettings, build_classifier
from pipeline.nets.hypernetwork import Hypernetwork, HypernetworkSettings
from pipeline.rng import generator, standard_normal


@pytest.fixture
def net():
    classifier = build_classifier(ClassifierSettings(widths=(8,)), Spec("vector", (2,), 3))
    return Hypernetwork(classifier, HypernetworkSettings(4, 3, (8,), (8,)), (2,))


@pytest.fixture
def items():
    """Vectors about three points, and the number of the point."""
    label = torch.arange(150) % 3
    centre = torch.tensor([[2.0, 0.0], [-2.0, 1.0], [0.0, -2.0]])
    return centre[label] + 0.3 * standard_normal((150, 2), generator(0)), label


def test_the_examples_run():
    assert not doctest.testmod(ensembles).failed


def test_independent_errors_vanish_in_an_ensemble():
    """Each of 31 members errs at random on 30 % of the items; the mean of all errs where more than half do."""
    right = torch.rand(31, 500, generator=generator(0)) > 0.3
    p = torch.stack([right.float(), 1 - right.float()], 2)
    label = torch.zeros(500, dtype=torch.int64)
    assert ensembles.ensemble_accuracy(p, label, 1, seed=0) == pytest.approx(0.7, abs=0.02)
    assert ensembles.ensemble_accuracy(p, label, 31, seed=0) > 0.98
    assert ensembles.disagreement(p) == pytest.approx(2 * 0.3 * 0.7, abs=0.02)


def test_the_participation_dimension_counts_directions_and_not_their_scale():
    x = standard_normal((2000, 4), generator(0))
    flat = x @ torch.tensor([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0.0]])
    assert ensembles.participation_dimension(7 * flat + 3) == pytest.approx(2, abs=0.02)


def test_a_path_begins_and_ends_at_its_members(net, items):
    x, label = items
    w = net(torch.rand(2, 4, generator=generator(0))).detach()
    (path,) = ensembles.path_accuracy(net, ensembles.lines(w[:1], w[1:], 5), x, label)
    ends = ensembles.member_accuracy(ensembles.probabilities(net, w, x), label)
    assert path[0] == ends[0]
    assert path[-1] == ends[1]


def test_classifiers_learn_from_labels_and_from_probabilities(net, items):
    x, label = items
    settings = DirectTraining(300, 32, 1e-2)
    w = train_directly(net, x, label, 3, settings, seed=1)
    accuracy = ensembles.member_accuracy(ensembles.probabilities(net, w, x), label)
    assert (accuracy > 0.95).all()
    assert len(w.unique(dim=0)) == 3
    assert torch.equal(w, train_directly(net, x, label, 3, settings, seed=1))
    shifted = torch.eye(3)[(label + 1) % 3]
    student = train_directly(net, x, shifted, 1, settings, seed=2, data_noise=0.1)
    assert ensembles.member_accuracy(ensembles.probabilities(net, student, x), (label + 1) % 3) > 0.95
