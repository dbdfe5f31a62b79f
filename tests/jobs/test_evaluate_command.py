"""The evaluation of runs, as a user types it."""

import json
from pathlib import Path

import arviz
import numpy as np
import pytest
from running import SMALL

FEW = "--n 40 --multiples 1 3 --long-run-chains 20 --chains 2 --draws 8 --warm-up 2 --annealed 20 --temperatures 4"
PNG = b"\x89PNG"


def read_result(folder):
    return json.loads((Path(folder) / "result.json").read_text())


@pytest.fixture
def persistent(command):
    flags = f"{SMALL} --bank 32 --updates 8 --checkpoint-every 8 --eval-long-run-steps 0 --test-share .1 --lr .01"
    code, _, err = command(f"anatomy digits-convergent {flags} --out run")
    assert code == 0, err
    return "run"


@pytest.mark.slow
def test_everything_of_a_run_of_images_with_its_protocol(command, persistent):
    line = f"evaluate {persistent} {FEW} --split test"
    code, out, err = command(f"{line} --export chains.nc")
    assert code == 0, err
    result = read_result("run/evaluate-8")
    metrics, protocols = result["metrics"], result["protocols"]
    assert {"frechet", "kernel_distance", "class_score", "frechet_floor"} <= metrics.keys()
    assert {f"frechet_{start}_{k}K" for start in ("noise", "data", "bank") for k in (1, 3)} <= metrics.keys()
    assert {"rhat_max", "ess_bulk_min", "log_z_ais", "bits_per_dim_ais"} <= metrics.keys()
    assert not any("fid" in name or "inception" in name for name in metrics)
    assert {one["protocol"] for one in metrics.values()} == protocols.keys()
    of_samples = protocols[metrics["frechet"]["protocol"]]
    assert of_samples["start"] == ["noise"]
    assert [of_samples[name] for name in ("steps", "noise", "n", "seed", "weights")] == [3, 0.1, 40, 0, "last"]
    assert of_samples["reference"].startswith("test, 180 items")
    assert of_samples["features"].startswith("classifier")
    assert metrics["kernel_distance"]["standard_error"] > 0
    for name in ("samples", "energies", "distances", "long_runs", "mixing"):
        assert (Path("run/evaluate-8") / f"{name}.png").read_bytes().startswith(PNG)
    assert metrics["frechet"]["protocol"] in out
    again = command(f"{line} --metrics samples --out again")
    assert again[0] == 0
    assert all(metrics[name] == value for name, value in read_result("again")["metrics"].items())
    assert command(line)[::2] == (
        2,
        "error: --out run/evaluate-8: exists: results are never overwritten; choose another folder\n",
    )
    _opened_by_arviz(result)


def _opened_by_arviz(result):
    data = arviz.from_netcdf("chains.nc")
    assert dict(data.posterior.sizes) == {"chain": 6, "draw": 8, "quantity": 8}
    assert data.warmup_posterior.sizes["draw"] == 2
    for group in (data.posterior, data.warmup_posterior):
        assert list(group.start.values) == ["noise"] * 2 + ["data"] * 2 + ["bank"] * 2
    assert list(data.warmup_posterior.step.values) == [3, 6]
    assert list(data.posterior.step.values) == [3 * k for k in range(3, 11)]
    assert [data.posterior.attrs[name] for name in ("warmup_draws", "warmup_steps", "steps_per_draw")] == [2, 6, 3]
    assert "persistent chains" in json.loads(data.attrs["start_meanings"])["bank"]
    from_data = data.posterior.sel(chain=data.posterior.start == "data")
    assert from_data.sizes["chain"] == 2
    summary = arviz.summary(data, round_to="none")
    by = {name: summary.loc["energy" if name == "energy" else f"x[{name}]"] for name in result["mixing"]}
    for name, own in result["mixing"].items():
        np.testing.assert_allclose([own["rhat"], own["ess_bulk"]], [by[name]["r_hat"], by[name]["ess_bulk"]])
    protocol = json.loads(data.attrs["protocol"])
    assert result["protocols"][protocol.pop("hash")] == protocol
    arviz.plot_trace(data)
    arviz.plot_autocorr(data, var_names=["energy"])


@pytest.mark.slow
def test_actors_find_the_same_numbers(command, persistent, ray_session):
    assert command(f"evaluate {persistent} {FEW} --out here")[0] == 0
    code, _, err = command(f"evaluate {persistent} {FEW} --actors 2 --cpus-per-actor .25 --out there")
    assert code == 0, err
    assert read_result("here")["metrics"] == read_result("there")["metrics"]
    assert read_result("here")["mixing"] == read_result("there")["mixing"]


@pytest.mark.slow
def test_a_run_that_is_looked_at_on_its_way_ends_as_any_other(command):
    train = f"short_run digits {SMALL} --checkpoint-every 1"
    assert command(f"{train} --updates 4 --out undisturbed")[0] == 0
    assert command(f"{train} --updates 2 --out looked-at")[0] == 0
    assert command(f"evaluate looked-at {FEW}")[0] == 0
    assert command("resume looked-at --updates 4")[0] == 0
    assert command(f"evaluate looked-at {FEW}")[0] == 0
    assert read_result("looked-at")["weights_sha256"] == read_result("undisturbed")["weights_sha256"]
    assert read_result("looked-at/evaluate-2")["update"] == 2
    one, other = (read_result(f"looked-at/evaluate-{update}") for update in (2, 4))
    assert one["protocols"] == other["protocols"]
    assert one["metrics"] != other["metrics"]


@pytest.mark.slow
def test_points_are_compared_with_the_truth(command):
    flags = "--learners 0 --actors 0 --steps 3 --eval-samples 0 --updates 2 --eval-long-run-steps 0"
    assert command(f"anatomy rings-nonconvergent {flags} --out run")[0] == 0
    code, out, err = command(f"evaluate run {FEW} --out found --features coordinates")
    assert code == 0, err
    metrics = read_result("found")["metrics"]
    assert {
        "kl",
        "kl_floor",
        "frechet",
        "kl_noise_1K",
        "kl_data_3K",
        "grid_kl",
        "log_likelihood_grid",
    } <= metrics.keys()
    assert "items                    none: Anatomy has no metrics of single items" in out
    errors = {
        "--split test": "--split test: the run held out no such items",
        "--metrics items": "--metrics items: Anatomy has no metrics of single items",
        "--starts bank": "--starts bank: the run has noise, data",
        "--features squeezenet": "--features squeezenet: only images have these features, not data of kind vector",
        "--export chains": "--export chains: its name must end in .nc",
        "--metrics samples --export c.nc": "--export c.nc: only the chains of mixing can be exported, "
        "and they are not measured",
        "--n 1": "--n 1: must be 2 or more",
    }
    for flags, error in errors.items():
        assert command(f"evaluate run {flags} --out other")[::2] == (2, f"error: {error}\n")
    assert not Path("other").exists()


def test_latent_vectors_and_what_no_chain_moves(command):
    flags = (
        "--learners 0 --actors 0 --updates 2 --eval-samples 0 --latent-dim 3 --batch-size 8 --width 8 --prior-steps 4"
    )
    assert command(f"latent_prior digits {flags} --out run")[0] == 0
    few = f"{FEW} --items 4 --item-chains 5"
    code, out, err = command(f"evaluate run {few} --out found")
    assert code == 0, err
    metrics = read_result("found")["metrics"]
    assert {"frechet", "frechet_noise_3K", "rhat_energy", "log_likelihood_ais", "mse_train"} <= metrics.keys()
    assert set(read_result("found")["mixing"]) == {"energy", "z0", "z1", "z2"}
    assert command(f"joint_vae digits {flags.replace('--prior-steps 4', '')} --out none")[0] == 0
    code, out, err = command(f"evaluate none {few} --out other")
    assert code == 0, err
    assert "mixing                   none: no chain moves its samples" in out
    assert {"frechet", "mse_train"} <= read_result("other")["metrics"].keys()
