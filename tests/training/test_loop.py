"""Whole runs in one process: the same numbers whatever way they come about."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from running import local_pool, newest, run

from pipeline.chains.local_pool import LocalPool
from pipeline.errors import Diverged, InputError
from pipeline.runs import checkpoint
from pipeline.runs.job import override
from pipeline.runs.job_json import from_json, to_json
from pipeline.runs.storage import Storage
from pipeline.sampling import long_chains


def logged(job):
    return [json.loads(line) for line in (Path(job.out) / "metrics.jsonl").read_text().splitlines()]


def test_same_seed_same_weights_and_every_network_moves(small, tmp_path):
    first = run(small)
    again = run(replace(small, out=str(tmp_path / "again")))
    other = run(replace(small, out=str(tmp_path / "other"), seed=1))
    start = run(replace(small, out=str(tmp_path / "start"), updates=1))
    assert first["weights_sha256"] == again["weights_sha256"]
    assert len({r["weights_sha256"] for r in (first, other, start)}) == 3


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_half_a_run_and_its_resumption_are_the_whole_run(small, tmp_path, lag):
    whole = run(replace(small, lag=lag))
    half = replace(small, lag=lag, out=str(tmp_path / "half"))
    run(replace(half, updates=3))
    resumed = run(half)
    for key in ("weights_sha256", "gradient_evaluations"):
        assert resumed[key] == whole[key]
    for lane in range(4):  # banks and answers under way, too
        parts = [checkpoint.read_part(newest(job), f"lane-{lane:04d}") for job in (small, half)]
        tensors = [checkpoint.split_tensors(part)[1] for part in parts]
        assert all(torch.equal(t, tensors[1][k]) for k, t in tensors[0].items())
    rows = [logged(job) for job in (small, half)]
    assert [r["update"] for r in rows[1]] == list(range(6))
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if "time/" not in k} == {k: v for k, v in b.items() if "time/" not in k}


def test_a_resumed_runs_lines_are_the_whole_runs(small, tmp_path):
    coarse = override(small, log_every=4)
    half = replace(coarse, out=str(tmp_path / "half"))
    run(coarse)
    run(replace(half, updates=3))
    assert [row["update"] for row in logged(half)] == [0, 2]
    run(half)
    assert [row["update"] for row in logged(half)] == [row["update"] for row in logged(coarse)] == [0, 4, 5]


def test_lag_moves_chains_under_older_weights(small):
    run(replace(small, lag=2))
    rows = logged(small)
    assert [r["chains/lag"] for r in rows] == [0, 1, 2, 2, 2, 2]
    assert [r["chains/staleness"] > 0 for r in rows] == [False, True, True, True, True, True]


def test_a_resumed_run_starts_from_the_newest_whole_checkpoint(small, tmp_path):
    whole = run(small)
    torn = replace(small, out=str(tmp_path / "torn"))
    run(torn)
    (Path(newest(torn).path) / "manifest.json").unlink()
    assert newest(torn).path.endswith("update-00000004")
    assert run(torn)["weights_sha256"] == whole["weights_sha256"]


def test_the_result_says_what_was_done(small):
    found = run(override(small, eval_samples=50, updates=2))
    assert found == Storage.at(small.out).read_json("result.json")
    assert (found["name"], found["recipe"], found["seed"], found["updates"]) == ("small", "Anatomy", 0, 2)
    assert found["gradient_evaluations"] == 2 * 16 * 5
    assert found["wall_seconds"] > 0
    assert found["cpu_seconds"] > 0
    metrics = {name: one["value"] for name, one in found["metrics"].items()}
    assert all(one["protocol"] in found["protocols"] for one in found["metrics"].values())
    sampler = small.recipe.langevin
    assert found["sampler"] == {
        "steps": sampler.steps,
        "drift": sampler.drift,
        "noise": sampler.noise,
        "temperature": sampler.temperature,
    }
    assert 0 < metrics["frechet_floor"] < metrics["frechet"]
    assert metrics["frechet_start"] > 0
    assert (Path(small.out) / "samples" / "final.png").stat().st_size > 500
    rows = logged(small)
    wanted = {
        "update",
        "loss/energy",
        "energy/gap",
        "chains/grad_norm",
        "chains/lag",
        "chains/staleness",
        "time/update",
    }
    assert all(wanted <= set(row) for row in rows)


def test_a_diverging_run_stops_and_keeps_its_last_healthy_checkpoint(small):
    recipe = replace(small.recipe, lr=1e30, bank=0)
    pool = local_pool(small)
    run(replace(small, updates=2))
    healthy = newest(small).path
    with pytest.raises(Diverged, match="not finite at update 1"):
        run(replace(small, recipe=recipe, out=small.out + "-bad"))
    with pytest.raises(Diverged) as caught:
        submit = pool.submit
        pool.submit = lambda update, tasks, flat, fixed=None: submit(update, tasks, flat * float("nan"), fixed)
        run(small, pool)
    assert (caught.value.quantity, caught.value.update) == ("chain states", 2)
    assert newest(small).path == healthy


@pytest.mark.parametrize("change", [{"lanes": 2}, {"source": "eight-gaussians"}, "recipe"])
def test_a_checkpoint_of_another_run_is_refused(small, change):
    run(replace(small, updates=2))
    change = {"recipe": replace(small.recipe, width=8)} if change == "recipe" else change
    with pytest.raises(InputError, match="belongs to another run"):
        run(override(small, **change))


@pytest.mark.slow
def test_long_chains_from_data_and_the_bank_are_evaluated_too(small, tmp_path, monkeypatch):
    monkeypatch.setattr(long_chains, "STRETCH", 3)
    moved = []
    monkeypatch.setattr(LocalPool, "submit", counting(LocalPool.submit, moved))
    job = override(small, eval_samples=20, updates=20, eval_long_run_steps=7, patience=0)
    metrics = run(job)["metrics"]
    names = ["frechet", "frechet_start", "frechet_bank", "frechet_floor", "frechet_data", "frechet_data_1.4K"]
    assert set(names) <= set(metrics)
    training, long = moved[:21], moved[21:]  # 20 updates and one draw of samples
    assert set(training) == {small.recipe.langevin.steps}
    assert sum(long) == 7
    assert max(long) <= 3
    assert all((Path(job.out) / "samples" / f"{name}.png").exists() for name in ("final", "bank"))
    assert all((Path(job.out) / "figures" / f"{name}.png").exists() for name in ("dynamics", "long_runs", "distances"))
    again = run(replace(job, out=str(tmp_path / "again")))["metrics"]
    assert again == metrics


def counting(submit, moved):
    def counted(self, update, tasks, flat, fixed=None):
        moved.append(tasks[0].sampler.steps)
        submit(self, update, tasks, flat, fixed)

    return counted


def test_a_run_of_another_version_is_refused(small):
    run(replace(small, updates=2))
    place = newest(small)
    state = place.read_json("state.json")
    del state["state"]["identity"]["format"]
    text = json.dumps(state).encode()
    place.write("state.json", text)
    hashes = place.read_json("manifest.json")
    place.write_json("manifest.json", {**hashes, "state.json": sha256(text).hexdigest()})
    with pytest.raises(InputError, match="its format is None, not 5"):
        run(small)
    settings = to_json(small)
    settings["recipe"]["langevins"] = 3
    with pytest.raises(InputError, match="not a job of this version: it has no langevins"):
        from_json(settings)
