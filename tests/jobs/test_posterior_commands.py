"""Commands on the posterior chains of a finished run, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
from running import features_in

PNG = b"\x89PNG"
FLAGS = "--learners 0 --actors 0 --width 16 --batch-size 8 --steps 3 --eval-samples 0 --updates 4 --test-share .1"


def read_result(folder):
    return json.loads((Path(folder) / "result.json").read_text())


@pytest.fixture
def inferred(train):
    """A run of short-run inference, with two checkpoints."""
    return train(f"short_run_inference digits {FLAGS} --latent-dims 3 2 --checkpoint-every 2 --keep-checkpoints 2")


def test_the_divergence_at_every_checkpoint_and_a_bound(command, inferred):
    code, out, err = command(f"studies.step_size {inferred} --sizes 5 --n 12 --bound-samples 4")
    assert code == 0, err
    result = read_result("run/step_size-4")
    assert result["items"] == "held out"
    assert result["step_sizes"] == pytest.approx([0.01 * 20 ** (i / 4) for i in range(5)])
    assert set(result["curves"]) == set(result["own"]) == {"2", "4"}
    curve, metrics = result["curves"]["4"], result["metrics"]
    assert metrics["divergence_best"] == min(curve["divergence"])
    assert metrics["step_size_best"] == result["step_sizes"][curve["divergence"].index(metrics["divergence_best"])]
    assert metrics["nll_bound"] < metrics["nll_bound_1"]
    assert curve["stiffness"] == sorted(curve["stiffness"])
    assert (Path("run") / "step_size-4/step_size.png").read_bytes().startswith(PNG)
    assert "run/step_size-4/step_size.png" in out
    code, _, err = command(f"studies.step_size {inferred}")
    assert (code, err) == (
        2,
        "error: --out run/step_size-4: exists: results are never overwritten; choose another folder\n",
    )


@pytest.mark.parametrize(
    "recipe", ["short_run_inference digits", "alternating_backprop digits", "latent_prior digits --architecture mlp"]
)
def test_every_recipe_with_chains_of_the_posterior_completes(command, recipe):
    flags = FLAGS.replace("--steps", "--posterior-steps") if "latent_prior" in recipe else FLAGS
    assert command(f"{recipe} {flags} --out run")[0] == 0
    code, out, err = command("complete run --n 120 --multiples 1 2 --average 2")
    assert code == 0, err
    metrics = read_result("run/complete-4")["metrics"]
    guesses = [f"{part}_{name}" for name in ("1K", "2K", "average", "mean", "pca") for part in ("hidden", "observed")]
    assert list(metrics) == [f"mse_{name}" for name in guesses]
    assert all(0 < value < 4 for value in metrics.values())
    assert metrics["mse_hidden_pca"] < metrics["mse_hidden_mean"]
    assert (Path("run") / "complete-4/completion.png").read_bytes().startswith(PNG)
    assert "completion.png" in out


def test_a_users_own_items_are_completed_and_other_shapes_refused(command, inferred):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    np.savez("others.npz", images=pixels)
    code, _, err = command(f"complete {inferred} --data others.npz --hide random --share .25 --average 0 --n 7")
    assert code == 0, err
    assert (read_result("run/complete-4")["items"], read_result("run/complete-4")["components"]) == ("others.npz", 5)
    np.savez("larger.npz", images=np.zeros((20, 9, 9), np.uint8))
    code, _, err = command(f"complete {inferred} --data larger.npz --out o")
    assert code == 2
    assert "--data larger.npz: its items have the shape (1, 9, 9), not (1, 8, 8)" in err


def test_nothing_hidden_is_reconstruction(command, inferred):
    assert command(f"complete {inferred} --share 0 --average 0 --multiples 1")[0] == 0
    assert list(read_result("run/complete-4")["metrics"]) == [
        "mse_observed_1K",
        "mse_observed_mean",
        "mse_observed_pca",
    ]


def test_runs_without_chains_of_the_posterior_are_refused(command, a_run):
    code, _, err = command(f"complete {a_run}")
    assert (code, err) == (
        2,
        "error: run run: ShortRun runs no chains of a posterior, which could complete\n",
    )
    code, _, err = command(f"studies.step_size {a_run}")
    assert code == 2
    assert err.startswith("error: run run: its model has no posterior chains that start from a prior N(0, I)")
    assert not list(Path(a_run).glob("complete*")) + list(Path(a_run).glob("step_size*"))


def test_another_table_is_not_read_by_its_own_statistics(command, tmp_path):
    table = features_in(tmp_path)
    flags = "--learners 0 --actors 0 --updates 2 --eval-samples 0 --latent-dim 2 --batch-size 8 --width 8"
    assert command(f"alternating_backprop digits --data {table} {flags} --out run")[0] == 0
    code, _, err = command(f"complete run --hide random --data {table} --out found")
    assert code == 2
    assert err.endswith(
        "features and texts are encoded with statistics of the training data: hold some out in the run\n"
    )


def test_labels_that_nothing_learns_from_are_refused(command):
    error = "error: --labels-per-class 5: LatentPrior with these settings learns from no labels\n"
    assert command("latent_prior digits --labels-per-class 5 --out run")[::2] == (2, error)
