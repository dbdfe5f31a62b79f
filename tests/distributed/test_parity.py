"""Learners and actors only carry lanes: results do not depend on their number, nor on which of them die."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from running import CPU, local_pool, run
from small_recipes import COOP, COUPLINGS, LATENT, TRANSPORT
from tqdm import tqdm

from pipeline.batch import Spec
from pipeline.data.dataset import load_data
from pipeline.distributed import actor_pool
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.train import chain_actors, run_learners
from pipeline.errors import InputError
from pipeline.nets import weights
from pipeline.recipe import init_networks
from pipeline.recipes.anatomy import Anatomy
from pipeline.run import run as run_whole
from pipeline.runs.job import override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage
from pipeline.schedule import Change
from pipeline.training.worker import Worker

pytestmark = pytest.mark.xdist_group("ray")

SPEC = Spec("image", (1, 8, 8), 10)


@pytest.fixture
def plain(small, tmp_path):
    """The weights' digest of a job that runs in this process."""
    return lambda job: run(override(job, learners=0, actors=0, out=str(tmp_path / "plain")))["weights_sha256"]


@pytest.fixture(scope="module")
def open_actors():
    """Actors that tests share, and what closes them."""
    with ExitStack() as stack:
        yield [], stack


@pytest.fixture
def actors(ray_session, small, open_actors):
    """Two actors of the small job, started once."""
    handles, stack = open_actors
    if not handles:
        handles += stack.enter_context(chain_actors(override(small, actors=2, cpus_per_actor=0.25), SPEC))
    return handles


def save(job):
    """Write the job's file, as a command would."""
    Storage.at(job.out).write_json("job.json", to_json(job))
    return job


class Killer:
    """A progress bar that kills a process during the fourth update."""

    def __init__(self, pid, **settings):
        self.pid, self.done = pid, 0

    def update(self, n=1):
        self.done += n
        if self.done == 3:  # a little later, while the tasks of the next update are in progress
            threading.Timer(0.1, os.kill, (self.pid, signal.SIGKILL)).start()

    def set_description(self, desc, refresh=True):
        pass

    def close(self):
        pass


@pytest.mark.parametrize(
    ("count", "lag", "sent", "precision"),
    [(1, 0, "float32", "highest"), (2, 1, "float32", "bf16"), (2, 0, "bfloat16", "highest")],
)
def test_actors_give_the_same_weights_as_no_actors(actors, small, plain, count, lag, sent, precision):
    job = save(override(small, actors=count, lag=lag, weights_dtype=sent, precision=precision))
    result = run_whole(job, CPU, ActorPool(actors[:count]), partial(tqdm, disable=True))
    assert result["weights_sha256"] == plain(job)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "lag", "carrying"), [(2, 0, False), (3, 1, False), (2, 1, True)])
def test_actors_give_the_same_weights_if_one_is_killed(ray_session, small, plain, count, lag, carrying):
    recipe = COOP if carrying else small.recipe
    recipe = replace(recipe, langevin=replace(recipe.langevin, steps=600))
    job = save(override(small, recipe=recipe, actors=count, lag=lag, cpus_per_actor=0.25))
    with chain_actors(job, SPEC) as handles:
        pid = ray_session.get(handles[0].pid.remote())
        result = run_whole(job, CPU, ActorPool(handles), lambda **settings: Killer(pid, **settings))
        assert ray_session.get(handles[0].pid.remote()) != pid
    assert result["weights_sha256"] == plain(job)


def test_frozen_weights_may_come_apart_or_with_the_others(ray_session, small):
    recipe = replace(TRANSPORT, flow=COUPLINGS)
    job = override(small, recipe=recipe, source="eight-gaussians", actors=2, cpus_per_actor=0.25)
    data = load_data(job.data.source)
    local, (one, other) = local_pool(job), (init_networks(recipe, data.spec, seed, CPU) for seed in (1, 2))
    tasks = Worker(job, data, CPU, local).tasks(0, 0)
    fixed = [weights.flatten({"flow": nets["flow"]}) for nets in (one, other)]
    learned = [weights.flatten({"energy": nets["energy"]}) for nets in (one, other)]
    both = weights.flatten(other)
    calls = [(learned[0], fixed[0]), (learned[1], fixed[0]), (both, None), (learned[0], fixed[0])]
    calls += [(learned[0], fixed[1]), (both, None), (learned[1], fixed[1]), (both, None)]
    ends = []
    with chain_actors(job, data.spec) as handles:
        pool = ActorPool(handles)
        for update, (flat, apart) in enumerate(calls):
            results = []
            for each in (local, pool):
                each.submit(update, tasks, flat, apart)
                results.append(each.collect(update))
            here, there = results
            assert here.keys() == there.keys()
            for key, result in here.items():
                assert np.array_equal(result.x, there[key].x)
                assert np.array_equal(result.energy, there[key].energy)
            ends.append(np.concatenate([result.x for result in here.values()]))
    assert np.array_equal(ends[0], ends[3])
    assert not np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[4])
    assert all(np.array_equal(ends[2], end) for end in ends[5:])


def stored_bytes(ray):
    """Bytes in the object store of this machine; Ray's public interface asks the dashboard."""
    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return get_memory_info_reply(state).store_stats.object_store_bytes_used


@pytest.mark.slow
def test_weights_leave_the_object_store_when_their_chains_have_moved(ray_session, small):
    job = override(small, actors=1, cpus_per_actor=0.25)
    data = load_data(job.data.source)
    tasks = Worker(job, data, CPU, local_pool(job)).tasks(0, 0)
    flat = weights.flatten(init_networks(job.recipe, data.spec, 1, CPU))
    with chain_actors(job, data.spec) as handles:  # that no other test has sent weights to
        pool, before = ActorPool(handles), stored_bytes(ray_session)
        pool.submit(0, tasks, flat)
        assert stored_bytes(ray_session) >= before + flat.nbytes
        pool.collect(0)
        deadline = time.monotonic() + 20
        while stored_bytes(ray_session) > before:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_tasks_of_an_actor_that_hangs_go_to_another_and_count_once(
    actors, ray_session, small, plain, tmp_path, monkeypatch
):
    monkeypatch.setattr(actor_pool, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(actor_pool, "START_SECONDS", 1.0)
    monkeypatch.setattr(actor_pool, "POLL_SECONDS", 0.02)
    job = save(override(small, actors=2, lag=1))
    pid, _ = ray_session.get([handle.pid.remote() for handle in actors])
    os.kill(pid, signal.SIGSTOP)
    try:
        result = run_whole(job, CPU, ActorPool(actors), partial(tqdm, disable=True))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert result["weights_sha256"] == plain(job)
    assert result["faults"]["tasks_resent"] >= 1
    undisturbed = json.loads((tmp_path / "plain" / "result.json").read_text())
    assert result["gradient_evaluations"] == undisturbed["gradient_evaluations"]
    lines = [json.loads(line) for line in (Path(job.out) / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["faults/tasks_resent"] == result["faults"]["tasks_resent"]


@pytest.mark.slow
def test_two_learners_that_share_an_actor_equal_one_process(actors, small, plain):
    job = save(override(small, learners=2, actors=1, lag=1, cpus_per_learner=0.25))
    assert run_learners(job, SPEC, actors[:1])["weights_sha256"] == plain(job)


@pytest.mark.slow
def test_two_learners_that_send_bfloat16_to_three_actors_equal_one_process(ray_session, small, plain):
    job = override(small, weights_dtype="bfloat16", learners=2, actors=3, cpus_per_learner=0.25, cpus_per_actor=0.25)
    with chain_actors(job, SPEC) as handles:
        assert run_learners(save(job), SPEC, handles)["weights_sha256"] == plain(job)


@pytest.mark.slow
def test_two_learners_whose_chains_carry_something_equal_one_process(ray_session, small, plain):
    job = override(small, recipe=COOP, learners=2, actors=1, lag=1, cpus_per_learner=0.25)
    with chain_actors(override(job, cpus_per_actor=0.25), SPEC) as handles:
        assert run_learners(save(job), SPEC, handles)["weights_sha256"] == plain(job)


@pytest.mark.slow
def test_changes_of_settings_reach_learners_and_actors(ray_session, small, plain):
    changes = (Change(2, {"sigma": 0.1, "posterior_steps": 4, "energy_lr": 1e-3}), Change(4, {"prior_step_size": 0.2}))
    job = override(small, recipe=LATENT, changes=changes, learners=2, actors=1, cpus_per_learner=0.25, lag=1)
    with chain_actors(override(job, cpus_per_actor=0.25), SPEC) as handles:
        assert run_learners(save(job), SPEC, handles)["weights_sha256"] == plain(job)
    constant = override(job, learners=0, actors=0, changes=(), out=f"{job.out}-constant")
    assert run(constant)["weights_sha256"] != plain(job)


def refusing():
    """A class of recipes that refuse a setting at the first update; made here, so that it travels by value."""

    @dataclass(frozen=True)
    class Refusing(Anatomy):
        def losses(self, *args):
            raise InputError("must be odd", "width", self.width)

    return Refusing


@pytest.mark.slow
def test_an_error_of_a_learner_keeps_its_field_and_value(ray_session, small):
    job = save(override(small, recipe=refusing()(batch_size=16, width=4), learners=1, cpus_per_learner=0.25))
    with pytest.raises(InputError, match="must be odd") as caught:
        run_learners(job, SPEC, [])
    assert (caught.value.why, caught.value.field, caught.value.value) == ("must be odd", "width", 4)


@pytest.mark.slow
def test_a_run_survives_the_death_of_its_learner_and_of_an_actor(ray_session, small):
    recipe = replace(small.recipe, langevin=replace(small.recipe.langevin, steps=300))
    job = override(small, recipe=recipe, learners=1, actors=2, updates=12, cpus_per_actor=0.25, cpus_per_learner=0.25)
    save(job)
    whole = run(override(job, learners=0, actors=0, out=job.out + "-plain"))
    with chain_actors(job, load_data(job.data.source).spec) as handles:
        pid = ray_session.get(handles[1].pid.remote())
        threading.Thread(target=kill_both, args=(Path(job.out), pid), daemon=True).start()
        result = run_learners(job, SPEC, handles)
        assert ray_session.get(handles[1].pid.remote()) != pid
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert result["gradient_evaluations"] == whole["gradient_evaluations"]
    assert (result["faults"]["actor_restarts"], result["faults"]["learner_restarts"]) == (1, 1)


def kill_both(out, actor):
    """Kill an actor after the first line of metrics, and the learner, by its TensorBoard file, after a checkpoint."""
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
        time.sleep(0.02)
    os.kill(actor, signal.SIGKILL)
    while not (out / "checkpoints" / "update-00000004" / "manifest.json").exists():
        time.sleep(0.02)
    (events,) = out.glob("events.out.tfevents.*")
    os.kill(int(events.name.split(".")[-2]), signal.SIGKILL)


@pytest.mark.slow
def test_a_command_and_its_resumption_with_other_learners_equal_one_process(ray_session, small, plain):
    env = {**os.environ, "RAY_ADDRESS": ray_session.get_runtime_context().gcs_address}
    settings = "--steps 5 --batch-size 16 --width 4 --bank 80 --restart-prob .2 --data-noise .1 --lr 1e-4"
    settings += " --lr-decay 1 --lanes 4 --eval-samples 0 --lag 2 --updates 3 --learners 1 --actors 2"
    half = f"jobs.anatomy digits-nonconvergent {settings} --out {small.out}"
    rest = f"jobs.resume {small.out} --updates 6 --learners 2 --actors 0"
    for command in (half, rest):
        line = [sys.executable, "-m", *command.split(), "--cpus-per-learner", ".25", "--cpus-per-actor", ".25"]
        done = subprocess.run(line, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert f"sha256 {plain(replace(small, lag=2))}" in done.stdout
