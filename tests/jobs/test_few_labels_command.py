"""Samples of a class, and the study of few labels, as a user types them."""

import json

import numpy as np
import pytest
from running import features_in

FLAGS = "--learners 0 --actors 0 --eval-samples 20 --width 16 --latent-dim 4 --prior-steps 3 --batch-size 20"
FLAGS += " --labelled-batch-size 10"


@pytest.fixture
def two_runs(train):
    line = f"symbol_vector digits {FLAGS} --updates 10 --labels-per-class 2"
    return [train(f"{line} --seed {seed}", f"run-{seed}") for seed in (0, 1)]


@pytest.mark.slow
def test_samples_of_a_class(command, two_runs, tmp_path):
    for label in (3, 4):
        code, out, err = command(f"sample run-0 --n 5 --label {label} --out {label}.npy")
        assert (code, "5 in" in out) == (0, True), err
    three, four = np.load(tmp_path / "3.npy"), np.load(tmp_path / "4.npy")
    assert three.shape == four.shape == (5, 1, 8, 8)
    assert not np.array_equal(three, four)
    assert command("sample run-0 --label 10 --out y.npy") == (
        2,
        "",
        "error: --label 10: the classes are 0 to 9\n",
    )


@pytest.mark.slow
def test_few_labels_compares_runs_that_differ_in_their_seed(command, two_runs, tmp_path):
    code, _, err = command("studies.few_labels run-0 run-1 --updates 40 --out found")
    assert code == 0, err
    result = json.loads((tmp_path / "found" / "result.json").read_text())
    assert [(row["labels"], row["seed"]) for row in result["runs"]] == [(2, 0), (2, 1)]
    names = {"symbol_vector-digits": "accuracy", "labels only": "labels_only", "label spreading": "label_spreading"}
    for name, method in names.items():
        values = [row[method] for row in result["runs"]]
        assert result["metrics"][f"{name}-2"] == pytest.approx(np.mean(values))
        assert result["metrics"][f"{name}-2-sd"] == pytest.approx(np.std(values))
    assert result["metrics"]["labels only-2"] > 0.25
    own = json.loads((tmp_path / "run-0" / "result.json").read_text())["metrics"]["accuracy"]["value"]
    assert result["runs"][0]["accuracy"] == pytest.approx(own, abs=1e-6)
    assert (tmp_path / "found" / "few_labels.png").exists()


@pytest.mark.slow
def test_images_have_a_row_of_samples_for_each_class(command, tmp_path):
    code, _, err = command(f"symbol_vector digits {FLAGS} --updates 2 --out run")
    assert code == 0, err
    assert (tmp_path / "run" / "samples" / "classes.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--labels-per-class 0 --labelled-batch-size 0", "did not learn to classify from a stream of labelled items"),
        ("--test-share 0", "it held out no labelled items to compare on (test_share)"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(command, flags, why):
    code, _, err = command(f"symbol_vector digits {FLAGS} --updates 2 --labels-per-class 2 {flags} --out run")
    assert code == 0, err
    code, _, err = command("studies.few_labels run")
    assert code == 2
    assert why in err


def test_a_table_is_learned(command, tmp_path):
    features_in(tmp_path)
    code, _, err = command(
        f"symbol_vector table --data table.parquet {FLAGS} --updates 60 --labels-per-class 3 --out run"
    )
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]["accuracy"]["value"] > 0.8
