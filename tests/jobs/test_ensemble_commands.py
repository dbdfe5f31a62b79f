"""The hypernetwork, its ensembles and students, as a user types them."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

SMALL = "--noise-dim 4 --code-dim 3 --extractor-widths 8 --generator-widths 8 --widths 4 --members 4 --batch-size 64"
LINE = f"hypernetwork digits --learners 0 --actors 0 {SMALL} --updates 30 --lr 0.01 --eval-samples 10"
LINE += " --accuracy-weight 300 --data-noise 0"


@pytest.fixture
def a_run(train):
    return train(LINE)


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_run_measures_members_and_their_ensemble_and_says_what_it_has_not(command, a_run, tmp_path):
    metrics = result(tmp_path / "run")["metrics"]
    assert set(metrics) == {f"{kind}{name}" for kind in ("", "member_") for name in ("accuracy", "cross_entropy")}
    assert metrics["accuracy"]["value"] > 0.2
    assert not list((tmp_path / "run" / "samples").glob("*"))
    code, out, err = command("evaluate run --metrics samples")
    assert (code, err) == (2, "error: --metrics samples: samples of HypernetworkEnsemble are not data\n")
    code, out, err = command("evaluate run --out measured")
    assert (code, "accuracy" in out) == (0, True), err


def test_samples_are_weights_in_files_and_folders(command, a_run, tmp_path):
    for out in ("w.npy", "w.parquet", "blocks/"):
        code, _, err = command(f"sample run --n 5 --out {out}")
        assert code == 0, err
    w = np.load(tmp_path / "w.npy")
    assert w.shape == (5, 65 * 4 + 5 * 10)
    for file in (tmp_path / "w.parquet", next((tmp_path / "blocks").glob("*.parquet"))):
        assert np.allclose(pq.read_table(file).column("features").to_pylist(), w)
    assert not list((tmp_path / "blocks").glob("*.png"))


def test_an_ensemble_beside_classifiers_that_learn_on_their_own(command, a_run, train, tmp_path):
    train(f"{LINE} --accuracy-weight 10 --gauge none", "other")
    flags = "--sizes 1 3 --n 8 --pairs 2 --points 3 --independent 3 --training-updates 20 --noise 0 2 --beside other"
    code, _, err = command(f"ensemble run {flags} --out found")
    assert code == 0, err
    found = result(tmp_path / "found")
    metrics = found["metrics"]
    for origin in ("members", "independent", "equal_cost"):
        assert 0 <= metrics[f"{origin}_accuracy"] <= 1
        assert metrics[f"{origin}_ensemble_1"] == pytest.approx(metrics[f"{origin}_accuracy"], abs=0.05)
        assert found["noise"][origin]["member"]["0.0"] == pytest.approx(metrics[f"{origin}_accuracy"])
    assert metrics["entropy"] == pytest.approx(metrics["entropy_full_gauge"])
    assert {"latent_path", "members_path", "independent_path"} <= set(metrics)
    pictures = {path.stem for path in (tmp_path / "found").glob("*.png")}
    assert pictures == {"accuracies", "sizes", "paths", "weights", "noise"}


def test_a_student_learns_and_its_weights_are_written(command, a_run, tmp_path):
    code, _, err = command("distill run --n 5 --students 2 --training-updates 200 --out found")
    assert code == 0, err
    assert result(tmp_path / "found")["metrics"]["direct_accuracy"] > 0.3
    assert np.load(tmp_path / "found" / "student.npy").shape == (65 * 4 + 5 * 10,)


@pytest.mark.parametrize("name", ["ensemble", "distill"])
def test_runs_without_classifiers_or_held_out_items_are_refused(command, train, name, tmp_path):
    train(f"{LINE} --test-share 0 --updates 1", "whole")
    train("flow eight-gaussians --updates 1 --couplings 1 --hidden 4 --eval-samples 0", "flow")
    code, _, err = command(f"{name} whole")
    assert (code, err) == (2, "error: run whole: it held out no labelled items to classify (test_share)\n")
    code, _, err = command(f"{name} flow")
    assert (code, err) == (2, "error: run flow: MaximumLikelihoodFlow samples no classifiers\n")
    assert not list((tmp_path / "flow").glob(f"{name}*"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{LINE} --members 1", "--members 1: must be greater than or equal to 2"),
        ("hypernetwork digits --data eight-gaussians", "a classifier needs labels of two classes or more"),
        (f"{LINE} --channels 4 4 4 4", "are too small to pool so often"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(command, line, why, tmp_path):
    code, _, err = command(f"{line} --out refused")
    assert code == 2
    assert why in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "refused").exists()
