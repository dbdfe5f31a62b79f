"""Networks that judge learn on the CPU, whatever device they judge on: a distance does not depend on it."""

import pytest
from running import sentences_in
from simulated_gpu import simulated_gpu

from pipeline.data.dataset import load_data
from pipeline.evaluation.judges import classifier, language_model
from pipeline.nets.weights import flatten


@pytest.fixture(autouse=True)
def untrained(monkeypatch, tmp_path):
    monkeypatch.setenv("EBM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(classifier, "TRAINING_ITEMS", 2 * classifier.BATCH_SIZE)
    monkeypatch.setattr(language_model, "EPOCHS", 1)


@pytest.mark.parametrize("judge", [pytest.param("classifier", marks=pytest.mark.slow), "language model"])
def test_a_judge_learns_on_the_cpu(judge, tmp_path):
    if judge == "classifier":
        data, trained = load_data("digits"), classifier.trained_classifier
    else:
        data, trained = load_data(sentences_in(tmp_path)), language_model.real_language_model
    with simulated_gpu() as record:
        net = trained(data, "cuda")
        parameters = [*net.parameters()]
        assert all(p.device.type == "cuda" and not p.requires_grad for p in parameters)
        assert not record.operators
        flat = flatten({"judge": net})
    assert (flat == flatten({"judge": trained(data)})).all()
