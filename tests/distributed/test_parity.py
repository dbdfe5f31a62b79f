"""Learners and actors only carry lanes: the numbers do not know how many there are, nor which of them died."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from running import CPU, local_pool, run
from small_recipes import COUPLINGS, TRANSPORT
from tqdm import tqdm

from pipeline.batch import Spec
from pipeline.data.dataset import load_data
from pipeline.distributed import actor_pool as pool_module
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.train import chain_actors, fit
from pipeline.nets import weights
from pipeline.recipe import init_networks
from pipeline.runs.job import override, to_json
from pipeline.runs.storage import Storage
from pipeline.training.loop import train
from pipeline.training.worker import Worker

SPEC = Spec("image", (1, 8, 8), 10)


@pytest.fixture
def plain(small, tmp_path):
    return lambda job: run(override(job, learners=0, actors=0, out=str(tmp_path / "plain")))["weights_sha256"]


class Killer:
    """A progress bar that kills a process during the fourth update."""

    def __init__(self, pid, **settings):
        self.pid, self.done = pid, 0

    def update(self, n=1):
        self.done += n
        if self.pid and self.done == 3:  # a little later, while the tasks of the next update are under way
            threading.Timer(0.1, os.kill, (self.pid, signal.SIGKILL)).start()

    def set_description(self, desc, refresh=True):
        pass

    def close(self):
        pass


@pytest.mark.parametrize(("number", "lag", "kill"), [(1, 0, False), (2, 0, True), (3, 1, True)])
def test_actors_give_the_plain_loops_numbers_even_if_one_dies(ray_session, small, plain, number, lag, kill):
    long = replace(small.recipe, langevin=replace(small.recipe.langevin, steps=600 if kill else 5))
    job = override(small, recipe=long, actors=number, lag=lag, cpus_per_actor=0.25)
    Storage.at(job.out).write_json("job.json", to_json(job))
    with chain_actors(job, SPEC) as handles:
        pid = ray_session.get(handles[0].pid.remote()) if kill else 0
        found = train(job, CPU, ActorPool(handles), lambda **settings: Killer(pid, **settings))
        if kill:
            assert ray_session.get(handles[0].pid.remote()) != pid
    assert found["weights_sha256"] == plain(job)


def test_actors_answer_alike_whether_fixed_weights_come_apart_or_with_the_others(ray_session, small):
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
            answers = []
            for each in (local, pool):
                each.submit(update, tasks, flat, apart)
                answers.append(each.collect(update))
            here, there = answers
            assert here.keys() == there.keys()
            for key, answer in here.items():
                assert np.array_equal(answer.x, there[key].x)
                assert np.array_equal(answer.energy, there[key].energy)
            ends.append(np.concatenate([answer.x for answer in here.values()]))
    assert np.array_equal(ends[0], ends[3])
    assert not np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[4])
    assert all(np.array_equal(ends[2], end) for end in ends[5:])


def test_one_learner_and_two_actors_of_which_a_learner_and_an_actor_die(ray_session, small, plain):
    long = replace(small.recipe, langevin=replace(small.recipe.langevin, steps=300))
    job = override(small, recipe=long, learners=1, actors=2, updates=12, cpus_per_actor=0.25, cpus_per_learner=0.25)
    Storage.at(job.out).write_json("job.json", to_json(job))
    whole = run(override(job, learners=0, actors=0, out=job.out + "-plain"))
    with chain_actors(job, load_data(job.data.source).spec) as handles:
        pid = ray_session.get(handles[1].pid.remote())
        threading.Thread(target=kill_both, args=(Path(job.out), pid), daemon=True).start()
        found = fit(job, SPEC, handles)
        assert ray_session.get(handles[1].pid.remote()) != pid
    assert found["weights_sha256"] == whole["weights_sha256"]
    assert found["gradient_evaluations"] == whole["gradient_evaluations"]
    assert (found["faults"]["actor_restarts"], found["faults"]["learner_restarts"]) == (1, 1)


def kill_both(out, actor):
    """Kill an actor once there is a line, and the learner, by its board's name, once there is a checkpoint."""
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
        time.sleep(0.02)
    os.kill(actor, signal.SIGKILL)
    while not (out / "checkpoints" / "update-00000004" / "manifest.json").exists():
        time.sleep(0.02)
    (board,) = out.glob("events.out.tfevents.*")
    os.kill(int(board.name.split(".")[-2]), signal.SIGKILL)


def test_an_actor_that_hangs_is_worked_round_and_its_tasks_count_once(ray_session, small, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "PATIENCE", 1.0)
    monkeypatch.setattr(pool_module, "LOOK", 0.02)
    job = override(small, actors=2, lag=1, cpus_per_actor=0.25)
    Storage.at(job.out).write_json("job.json", to_json(job))
    with chain_actors(job, SPEC) as handles:
        pid, _ = ray_session.get([handle.pid.remote() for handle in handles])
        os.kill(pid, signal.SIGSTOP)
        try:
            found = train(job, CPU, ActorPool(handles), partial(tqdm, disable=True))
        finally:
            os.kill(pid, signal.SIGCONT)
    assert found["weights_sha256"] == plain(job)
    assert found["faults"]["tasks_resent"] >= 1
    undisturbed = json.loads((tmp_path / "plain" / "result.json").read_text())
    assert found["gradient_evaluations"] == undisturbed["gradient_evaluations"]
    lines = [json.loads(line) for line in (Path(job.out) / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["faults/tasks_resent"] == found["faults"]["tasks_resent"]


def test_two_learners_that_share_an_actor_equal_one(ray_session, small, plain):
    job = override(small, learners=2, actors=1, lag=1, cpus_per_actor=0.25, cpus_per_learner=0.25)
    Storage.at(job.out).write_json("job.json", to_json(job))
    with chain_actors(job, SPEC) as handles:
        found = fit(job, SPEC, handles)
    assert found["weights_sha256"] == plain(job)


def test_by_command_line_and_resumed_with_other_learners(ray_session, small, plain):
    env = {**os.environ, "RAY_ADDRESS": ray_session.get_runtime_context().gcs_address}
    resources = ["--cpus-per-learner", ".25", "--cpus-per-actor", ".25"]
    settings = "--steps 5 --batch 16 --width 4 --bank 80 --restart .2 --data-noise .1 --learning-rate 1e-4 --decay 1"
    flags = [*settings.split(), "--lanes", "4", "--samples", "0", "--lag", "2"]
    half = [
        "jobs.anatomy",
        "digits-nonconvergent",
        *flags,
        "--updates",
        "3",
        "--learners",
        "1",
        "--actors",
        "2",
        "--out",
        small.out,
    ]
    rest = ["jobs.resume", small.out, "--updates", "6", "--learners", "2", "--actors", "0"]
    for command in (half, rest):
        done = subprocess.run([sys.executable, "-m", *command, *resources], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    job = replace(small, lag=2)
    assert f"sha256 {plain(job)}" in done.stdout
