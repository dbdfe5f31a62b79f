"""Settings that change while a run learns: a function of the update, and exact wherever the run stops."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from running import CPU, everything, local_pool, newest, run

from jobs.cli.python_source import source, source_imports
from pipeline.chains.task import advance
from pipeline.errors import InputError
from pipeline.nets.weights import digest
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.runs import checkpoint
from pipeline.runs.job import check_job, load_dataset, override
from pipeline.runs.job_json import from_json, to_json
from pipeline.runs.snapshot import newest_snapshot
from pipeline.sampling.draw import draw_tasks, final_states, run_tasks
from pipeline.schedule import Change, changed_settings, check_changes, with_settings
from pipeline.training.worker import Worker

CHANGES = (
    Change(3, {"noise": 0.05, "steps": 7, "lr": 3e-4, "restart_prob": 0.5}),
    Change(5, {"drift": 0.5, "data_noise": 0.2, "lr": 1e-5}),
)


@pytest.fixture
def scheduled(small):
    return replace(small, changes=CHANGES)


def assert_same(one, other):
    one, other = everything(one), everything(other)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_schedule_is_the_chain_of_runs_with_each_of_its_settings(scheduled, tmp_path):
    expected = run(scheduled)["weights_sha256"]
    worker, begun = None, 0
    for end, update in ((3, 0), (5, 3), (6, 5)):  # each a worker of its own recipe, which takes over all by hand
        job = replace(scheduled, recipe=scheduled.recipe_at(update), changes=(), out=str(tmp_path / f"from-{update}"))
        before, worker = worker, Worker(job, load_dataset(job), CPU, local_pool(job))
        if before:
            rates = {name: one.param_groups[0]["lr"] for name, one in worker.learner.optimizers.items()}
            worker.learner.load_state_dict(before.learner.state_dict())
            for name, rate in rates.items():
                worker.learner.optimizers[name].param_groups[0]["initial_lr"] = rate
            for lane in worker.lanes:
                worker.banks["model"].load_state_dict(lane, before.banks["model"].state_dict(lane))
            worker.last, worker.pool.next = before.last, begun
        for step in range(begun, end):
            worker.step(step)
        begun = end
    assert digest(worker.learner.nets) == expected


@pytest.mark.parametrize("half", [2, 3, 4, 5])
def test_half_a_schedule_and_its_resumption_are_the_whole(scheduled, tmp_path, half):
    whole = replace(scheduled, out=str(tmp_path / "whole"))
    run(replace(scheduled, updates=half))
    assert run(scheduled)["weights_sha256"] == run(whole)["weights_sha256"]
    assert_same(scheduled, whole)


def test_changes_that_change_nothing_are_none(small, tmp_path):
    same = replace(small, changes=(Change(3, {"noise": 0.01, "lr": small.recipe.lr}),), out=str(tmp_path / "same"))
    assert run(small)["weights_sha256"] == run(same)["weights_sha256"]
    assert_same(small, same)


def test_a_lag_keeps_the_settings_of_the_update_that_chains_are_for(scheduled, tmp_path):
    late, whole = replace(scheduled, lag=1), replace(scheduled, lag=1, out=str(tmp_path / "whole"))
    run(replace(late, updates=2))  # the chains of updates 2 and 3, of two settings, are in flight or to come
    assert run(late)["weights_sha256"] == run(whole)["weights_sha256"]


def test_the_rate_of_optimizers_follows(scheduled):
    run(scheduled)
    groups = checkpoint.read_part(newest(scheduled), "learner")["optimizers"]["energy"]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [1e-5]
    rows = [json.loads(line) for line in (Path(scheduled.out) / "metrics.jsonl").read_text().splitlines()]
    assert [row["lr/energy"] for row in rows] == pytest.approx([1e-4] * 3 + [3e-4] * 2 + [1e-5])


def test_what_is_computed_with_the_model_uses_the_last_settings(scheduled):
    result = run(scheduled)
    assert (result["sampler"]["steps"], result["sampler"]["noise"], result["sampler"]["drift"]) == (7, 0.05, 0.5)
    snapshot = newest_snapshot(scheduled, CPU)
    assert (snapshot.sampler.steps, snapshot.sampler.drift) == (7, 0.5)
    run(replace(scheduled, updates=5, out=f"{scheduled.out}-5"))
    at_5 = newest_snapshot(replace(scheduled, out=f"{scheduled.out}-5"), CPU)
    assert (at_5.sampler.steps, at_5.sampler.drift) == (7, 1.0)  # the change at 5 is of the next update


def test_targets_of_chains_follow_whatever_pool_moves_them(small):
    recipe = LatentPrior(latent_dim=3, prior_steps=2, posterior_steps=2, batch_size=8, width=4, sigma=0.3)
    job = override(small, recipe=recipe, changes=(Change(1, {"sigma": 0.1, "posterior_steps": 3}),), updates=2)
    worker = Worker(job, load_dataset(job), CPU, local_pool(job))
    last = next(task for task in worker.tasks(1, 1) if task.chain == "posterior")
    after = with_settings(recipe, {"sigma": 0.1, "posterior_steps": 3})
    x = advance(recipe, worker.learner.nets, last).x
    assert np.array_equal(x, advance(after, worker.learner.nets, last._replace(settings={})).x)
    assert not np.array_equal(x, advance(recipe, worker.learner.nets, last._replace(settings={})).x)
    run(job)
    snapshot = newest_snapshot(job, CPU)
    tasks = draw_tasks(snapshot, 5, 0)
    assert tasks[0].settings == {"sigma": 0.1, "posterior_steps": 3}
    assert final_states(run_tasks(local_pool(job), snapshot.nets, tasks), "prior").shape == (5, 3)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ((Change(0, {"lr": 1.0}),), "must be greater than or equal to 1"),
        ((Change(3, {"width": 8}),), "changes=3:width=8: the networks cannot change while a run learns"),
        ((Change(3, {"leaky_slope": 0.1}),), "changes=3:leaky_slope=0.1: the networks cannot change"),
        ((Change(3, {"bank": 160}),), "changes=3:bank=160: the number of chains, their bank and the streams they"),
        ((Change(3, {"batch_size": 32}),), "changes=3:batch_size=32: the size of batches cannot change"),
        ((Change(3, {"optimizer": "sgd"}),), "changes=3:optimizer=sgd: the optimizer cannot change"),
        ((Change(3, {"noise": -1.0}),), "changes=3:noise=-1.0: noise must be greater than or equal to 0"),
        ((Change(3, {"nose": 1.0}),), "changes=3:nose=1.0: Anatomy has no nose"),
        ((Change(3, {"lr": 1.0}), Change(3, {"lr": 2.0})), "changes=3:lr=2.0: changes must be in the order of"),
    ],
)
def test_what_a_learner_cannot_take_over_is_refused_in_one_line(small, changes, why):
    with pytest.raises(InputError) as error:
        job = replace(small, changes=changes)
        check_job(job)
        check_changes(job.recipe, job.changes, load_dataset(job).spec)
    assert why in str(error.value)


def test_changes_are_part_of_the_run_once_they_have_happened(scheduled):
    run(replace(scheduled, updates=4))
    later = replace(scheduled, changes=(CHANGES[0], Change(4, {"lr": 1e-3})))
    run(replace(later, updates=5))  # what is still to come may change
    for changes in ((), (CHANGES[0], Change(4, {"lr": 2e-3})), (Change(2, {"lr": 1e-3}), Change(4, {"lr": 1e-3}))):
        with pytest.raises(InputError, match="belongs to another run: its changes"):
            run(replace(scheduled, changes=changes))


def test_a_schedule_is_the_same_in_json_and_in_python(scheduled):
    check_job(scheduled)
    assert from_json(json.loads(json.dumps(to_json(scheduled)))) == scheduled
    namespace = {}
    exec(f"{source_imports(scheduled)}\njob = {source(scheduled)}", namespace)
    assert namespace["job"] == scheduled
    assert scheduled.recipe_at(2) == scheduled.recipe
    assert changed_settings(scheduled.recipe, scheduled.recipe_at(5)) == {
        **CHANGES[0].settings,
        "drift": 0.5,
        "data_noise": 0.2,
        "lr": 1e-5,
    }
