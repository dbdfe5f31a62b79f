"""Few labels: two clouds of points, with the labels of two items each."""

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


def test_labels_that_spread_over_clouds_separate_them(clouds):
    separated = (clouds.test.batch(np.arange(60))["x"][:, 0] > 0) == true_labels(clouds.test)
    assert label_spreading_accuracy(clouds, clouds.test, 1000, 0) >= separated.float().mean() - 0.05


def test_training_on_labels_only_changes_encoder_and_energy_and_no_generator(clouds):
    nets = init_networks(RECIPE, clouds.spec, 0, CPU)
    before = {name: [p.clone() for p in net.parameters()] for name, net in nets.items()}
    train_on_labels_only(RECIPE, nets, clouds, 60, 4, 0)
    same = {
        name: all(torch.equal(p, q) for p, q in zip(net.parameters(), before[name], strict=True))
        for name, net in nets.items()
    }
    assert same == {"energy": False, "encoder": False, "generator": True}
    labelled = clouds._replace(rows=clouds.labelled_rows)
    assert accuracy(class_scores(RECIPE, nets, labelled), labelled) == 1


def test_confidence_is_calibrated_where_it_equals_accuracy(clouds):
    labels = true_labels(clouds)
    certain = 50 * (2 * torch.eye(2)[labels] - 1)
    assert calibration(certain, clouds) == 0
    assert calibration(-certain, clouds) == pytest.approx(1)
    assert calibration(torch.zeros(len(labels), 2), clouds) == pytest.approx(abs(0.5 - (labels == 0).float().mean()))


def test_counts_are_weighted_by_the_first_set(tmp_path):
    texts = load_data(sentences_in(tmp_path), test_share=0.2, text_as="counts")
    one, two = graph_features(texts, texts.test)
    assert np.allclose(np.linalg.norm(one, axis=1), 1)
    again = graph_features(texts, texts)[1]
    assert np.allclose(one, again)
    assert two.shape[1] == one.shape[1]
