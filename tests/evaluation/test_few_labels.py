"""Comparisons for few labels: two clouds, of which one item each has its label known."""

import numpy as np
import pytest
import torch
from running import CPU, features_in, sentences_in

from pipeline.data.dataset import load_data
from pipeline.evaluation.metrics.few_labels import (
    accuracy,
    calibration,
    class_scores,
    graph_features,
    label_spreading_accuracy,
    train_on_labels_only,
    true_labels,
)
from pipeline.recipe import init_networks
from pipeline.recipes.symbol_vector import SymbolVector

RECIPE = SymbolVector(latent_dim=2, batch_size=8, labelled_batch_size=4, width=16, autoencoder_lr=3e-3, energy_lr=3e-3)


@pytest.fixture
def clouds(tmp_path):
    return load_data(features_in(tmp_path, 300), test_share=0.2, labels_per_class=2)


def test_two_labels_that_spread_over_a_cloud_divide_as_its_truth_does(clouds):
    divided = (clouds.test.batch(np.arange(60))["x"][:, 0] > 0) == true_labels(clouds.test)
    assert label_spreading_accuracy(clouds, clouds.test, 1000, 0) >= divided.float().mean() - 0.05


def test_labels_alone_teach_encoder_and_energy_and_leave_the_generator(clouds):
    nets = init_networks(RECIPE, clouds.spec, 0, CPU)
    before = {name: [p.clone() for p in net.parameters()] for name, net in nets.items()}
    train_on_labels_only(RECIPE, nets, clouds, 60, 4, 0)
    same = {
        name: all(torch.equal(p, q) for p, q in zip(net.parameters(), before[name], strict=True))
        for name, net in nets.items()
    }
    assert same == {"energy": False, "encoder": False, "generator": True}
    learned = clouds._replace(rows=clouds.labelled_rows)
    assert accuracy(class_scores(RECIPE, nets, learned), learned) == 1


def test_confidence_is_calibrated_where_it_is_the_share_that_is_right(clouds):
    right = true_labels(clouds)
    sure = 50 * (2 * torch.eye(2)[right] - 1)
    assert calibration(sure, clouds) == 0
    assert calibration(-sure, clouds) == pytest.approx(1)
    assert calibration(torch.zeros(len(right), 2), clouds) == pytest.approx(abs(0.5 - (right == 0).float().mean()))


def test_counts_are_weighed_by_what_the_first_set_has(tmp_path):
    texts = load_data(sentences_in(tmp_path), test_share=0.2, text_as="counts")
    one, two = graph_features(texts, texts.test)
    assert np.allclose(np.linalg.norm(one, axis=1), 1)
    again = graph_features(texts, texts)[1]
    assert np.allclose(one, again)
    assert two.shape[1] == one.shape[1]
