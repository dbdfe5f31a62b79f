"""Images without labels: nothing to compare by, but a run still ends well, with its pictures."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from running import run
from small_recipes import LATENT

from pipeline.data.dataset import Dataset
from pipeline.evaluation.judges import classifier
from pipeline.evaluation.judges.classifier import trained_classifier
from pipeline.evaluation.plan import missing_metrics, why_no_distance
from pipeline.runs.job import load_dataset, override


def test_a_run_on_unlabelled_images_ends_with_pictures_and_without_distances(small):
    data = Dataset.from_arrays(np.random.default_rng(0).integers(256, size=(40, 8, 8), dtype=np.uint8))
    result = run(override(small, source=data.source, eval_samples=10, updates=2))
    assert result["metrics"] == {}
    assert (Path(small.out) / "samples" / "final.png").stat().st_size > 500


@pytest.fixture(autouse=True)
def briefly_trained_classifiers(monkeypatch):
    monkeypatch.setattr(classifier, "TRAINING_ITEMS", 3 * classifier.BATCH_SIZE)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([0], "of one class"),
        ([0, 0, None, -1, None], "of one class"),
        (["a"] * 30, r"of one class \(a\)"),
        ([None] * 5, "have no labels"),
    ],
)
def test_a_run_ends_well_without_the_distance_that_cannot_be(small, labels, why):
    images = np.random.default_rng(0).integers(256, size=(len(labels), 8, 8), dtype=np.uint8)
    data = Dataset.from_arrays(images, np.array(labels, object))
    result = run(override(small, source=data.source, eval_samples=10, updates=2))
    assert result["metrics"] == {}
    (line,) = missing_metrics(data, 10)
    assert re.search(f"no distance of samples to data: .*{why}", line)


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", None, "a", None]])
def test_a_few_labelled_images_have_a_distance_and_what_is_missing_is_said(small, labels):
    images = np.random.default_rng(0).integers(256, size=(len(labels), 8, 8), dtype=np.uint8)
    data = Dataset.from_arrays(images, labels)
    metrics = run(override(small, source=data.source, eval_samples=10, updates=2))["metrics"]
    assert all(np.isfinite(one["value"]) for one in metrics.values())
    assert {"frechet", "frechet_floor"} <= metrics.keys()
    said = [line.partition(":")[0] for line in missing_metrics(data, 10)]
    assert said == ["no kernel distance or class score"]


def test_a_run_on_a_single_text_ends_well(small, tmp_path):
    (tmp_path / "one.csv").write_text("text\na cat sees a cat\n")
    job = override(small, recipe=LATENT, source=str(tmp_path / "one.csv"), eval_samples=10, updates=2)
    result = run(job)
    assert not {"fppl", "rppl"} & result["metrics"].keys()
    assert missing_metrics(load_dataset(job), 10) == [
        "no perplexity of samples: a language model needs two texts or more"
    ]


def test_the_classifier_learns_from_labelled_items_alone():
    """Wherever half of the items are unlabelled, it is that of the other half."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(256, size=(40, 8, 8), dtype=np.uint8), rng.integers(2, size=40)
    half = np.where(np.arange(40) % 2 == 0, labels, -1)
    some = trained_classifier(Dataset.from_arrays(images, half))
    whole = trained_classifier(Dataset.from_arrays(images[::2], labels[::2]))
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(some(x), whole(x))


def test_one_vector_has_no_distance(small):
    data = Dataset.from_arrays(np.ones((1, 3)), standardize=True)
    result = run(override(small, source=data.source, eval_samples=10, updates=2))
    assert result["metrics"] == {}
    assert why_no_distance(data) == "a distance needs two items or more"
    assert why_no_distance(Dataset.from_arrays(np.ones((2, 3)))) == ""
