"""Commands on a finished run, and a run that rolls back, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
from running import SMALL

PNG = b"\x89PNG"


def read_result(folder):
    return json.loads((Path(folder) / "result.json").read_text())


@pytest.fixture
def persistent(train):
    flags = f"{SMALL} --bank 32 --updates 8 --checkpoint-every 8 --eval-long-run-steps 0"
    return train(f"anatomy digits-convergent {flags}")


def test_long_chains_from_noise_data_and_bank(command, persistent):
    line = f"evaluate {persistent} --metrics long-run --starts noise data bank --multiples 1 4 --long-run-chains 20"
    code, out, err = command(line)
    assert code == 0, err
    folder = Path(persistent) / "evaluate-8"
    metrics = read_result(folder)["metrics"]
    assert {f"frechet_{start}_{k}K" for start in ("noise", "data", "bank") for k in (1, 4)} <= set(metrics)
    assert all(one["value"] > 0 for one in metrics.values())
    assert {start: len(e) for start, e in read_result(folder)["energies"].items()} == {"noise": 4, "data": 4, "bank": 4}
    for name in ("energies.png", "distances.png", "long_runs.png"):
        assert (folder / name).read_bytes().startswith(PNG)
        assert name in out
    exists = f"error: --out {folder}: exists: results are never overwritten; choose another folder\n"
    assert command(line)[::2] == (2, exists)
    again = command(f"{line} --out again")
    assert again[0] == 0
    assert read_result("again")["metrics"] == metrics


def test_long_chains_in_the_plane(command, train):
    flags = "--learners 0 --actors 0 --steps 3 --eval-samples 0 --updates 2 --eval-long-run-steps 0"
    train(f"anatomy rings-nonconvergent {flags}")
    code, _, err = command("evaluate run --metrics long-run --multiples 1 2 --long-run-chains 50 --out found")
    assert code == 0, err
    assert {"kl_noise_1K", "kl_noise_2K", "kl_data_1K", "kl_data_2K"} <= set(read_result("found")["metrics"])
    code, _, err = command("evaluate run --metrics long-run --starts bank --out other")
    assert (code, err) == (2, "error: --starts bank: the run has noise, data\n")
    assert not Path("other").exists()
    assert command("interpolate run")[::2] == (2, "error: run run: it did not learn from images\n")


def test_reconstruction_reduces_the_error_and_reports_it(command, a_run):
    code, _, err = command(f"reconstruct {a_run} --n 12 --iterations 30 --lr .2")
    assert code == 0, err
    result = read_result(Path(a_run) / "reconstruct-2")
    assert len(result["errors"]) == 31
    assert result["metrics"]["mse_start"] == pytest.approx(result["errors"][0])
    assert result["metrics"]["mse"] <= min(result["errors"]) < result["errors"][0]
    assert (Path(a_run) / "reconstruct-2/reconstructions.png").read_bytes().startswith(PNG)
    np.savez("others.npz", images=np.zeros((20, 8, 8), np.uint8))
    assert command(f"reconstruct {a_run} --n 12 --iterations 2 --data others.npz --out o")[0] == 0
    np.savez("larger.npz", images=np.zeros((20, 9, 9), np.uint8))
    code, _, err = command(f"reconstruct {a_run} --data larger.npz --out p")
    assert code == 2
    assert "--data larger.npz: its items have the shape (1, 9, 9), not (1, 8, 8)" in err


def test_interpolation_is_drawn(command, a_run):
    code, _, err = command(f"interpolate {a_run} --pairs 3 --n 5")
    assert code == 0, err
    metrics = read_result(Path(a_run) / "interpolate-2")["metrics"]
    assert 0 < metrics["largest_step"] < metrics["end_to_end"]
    assert (Path(a_run) / "interpolate-2/interpolation.png").read_bytes().startswith(PNG)


def test_a_run_that_diverges_rolls_back_with_a_smaller_rate(command):
    diverging = f"short_run digits {SMALL} --updates 5 --lr 1e30"
    back = "--on-divergence rollback --rollback-lr-factor 1e-34"
    code, out, err = command(f"{diverging} {back} --out run")
    assert code == 0, err
    assert "diverged: chain states not finite at update 1" in err
    assert "continuing from update 0, attempt 1" in err
    assert len(read_result("run")["rollbacks"]) == 1
    assert "rollbacks" in out
    assert command(f"{diverging} --out stopped")[0] == 1
    assert command(f"resume stopped {back}")[0] == 0
    assert read_result("stopped")["weights_sha256"] == read_result("run")["weights_sha256"]


def test_chains_of_latent_vectors_are_decoded_and_may_stop_early(command, train):
    flags = "--learners 0 --actors 0 --updates 2 --eval-samples 0 --latent-dim 3 --batch-size 8 --width 8"
    train(f"latent_prior digits {flags} --prior-steps 4")
    few = "--metrics long-run --long-run-chains 20"
    code, _, err = command(f"evaluate run {few} --starts noise --multiples 0 .5 2 --out found")
    assert code == 0, err
    assert {f"frechet_noise_{m}K" for m in ("0", "0.5", "2")} <= set(read_result("found")["metrics"])
    assert len(read_result("found")["energies"]["noise"]) == 4
    error = "error: --starts data: the run has noise\n"
    assert command(f"evaluate run {few} --starts data --out other")[::2] == (2, error)
    train(f"joint_vae digits {flags}", "none")
    error = "error: --metrics long-run: no chain moves its samples\n"
    assert command(f"evaluate none {few} --starts noise --out other")[::2] == (2, error)


def test_an_older_checkpoint_is_sampled_and_evaluated_by_name(command, a_run):
    assert command(f"sample {a_run} --n 8 --out before.npy")[0] == 0
    assert command(f"resume {a_run} --updates 4 --checkpoint-every 2")[0] == 0
    assert command(f"sample {a_run} --n 8 --checkpoint 2 --out older.npy")[0] == 0
    assert command(f"sample {a_run} --n 8 --out newest.npy")[0] == 0
    before, older, newest = (np.load(f"{name}.npy") for name in ("before", "older", "newest"))
    assert (before == older).all()
    assert (before != newest).any()
    code, _, err = command(f"evaluate {a_run} --metrics samples --n 20 --checkpoint 2")
    assert code == 0, err
    assert read_result(Path(a_run) / "evaluate-2")["update"] == 2
    refused = command(f"sample {a_run} --n 8 --checkpoint 3 --out none.npy")
    why = "the run has 2, 4; it removes older ones"
    assert refused[::2] == (2, f"error: --checkpoint 3: {why}\n")
