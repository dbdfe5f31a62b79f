"""A machine that is lost, with a learner and actors on it, and another machine that joins."""

import json
import os
import signal
import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from running import CPU, run

from pipeline.batch import Spec
from pipeline.distributed import train as distributed
from pipeline.distributed.actors import ChainActor
from pipeline.runs.job import Range, check_job, override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

pytestmark = pytest.mark.xdist_group("ray")
SPEC = Spec("image", (1, 8, 8), 10)


@pytest.fixture
def cluster():
    """A head without CPUs, and two machines that each have room for a learner and both actors."""
    ray.shutdown()  # other tests may have started one
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


def test_a_run_continues_when_a_machine_is_lost_and_another_joins(cluster, small, monkeypatch):
    monkeypatch.setattr(distributed, "RESIZE_SECONDS", 3.0)
    recipe = replace(small.recipe, langevin=replace(small.recipe.langevin, steps=100))
    # one learner per machine: Ray counts all CPUs of a machine as free, even those of the actors (.4 each)
    job = override(
        small, recipe=recipe, learners=Range(1, 2), actors=2, updates=400, cpus_per_learner=1.2, cpus_per_actor=0.4
    )
    check_job(job)
    Storage.at(job.out).write_json("job.json", to_json(job))
    whole = run(override(job, learners=0, actors=0, out=job.out + "-plain"))
    (machines, nodes), result = cluster, {}
    train = lambda: result.update(distributed.run_on_ray(job, SPEC, CPU))  # noqa: E731
    runs = threading.Thread(target=train, daemon=True)
    runs.start()
    wait_for(job, 50, runs)
    machines.remove_node(nodes[0], allow_graceful=False)
    wait_for(job, 150, runs)
    machines.add_node(num_cpus=2)
    runs.join(timeout=400)
    assert not runs.is_alive()
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert result["gradient_evaluations"] == whole["gradient_evaluations"]
    assert result["faults"]["learner_restarts"] >= 1
    lease = Storage.at(job.out).read_json("lease.json")
    print(f"{result['faults']}, {result['wall_seconds']:.0f} s, {lease}")


def recording():
    """A class of actors that say which lanes they moved, and where; made here, so that it travels by value."""

    class Recording(ChainActor):
        moved = ()

        def advance(self, task, weights):
            self.moved = *self.moved, task.lane.index
            return super().advance(task, weights)

        def lanes(self):
            return ray.get_runtime_context().get_node_id(), self.moved

    return Recording


def test_a_learner_works_with_the_actors_of_its_own_node(cluster, small):
    job = override(small, learners=2, actors=4, cpus_per_learner=1.2)
    Storage.at(job.out).write_json("job.json", to_json(job))
    whole = run(override(job, learners=0, actors=0, out=job.out + "-plain"))
    handles = []
    for node in cluster[1]:  # dealt by turns, each learner would have one of either node
        here = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        remote = ray.remote(num_cpus=0.4, scheduling_strategy=here)(recording())
        handles += [remote.remote(job.recipe, SPEC, 1) for _ in range(2)]
    ray.get([handle.pid.remote() for handle in handles])
    assert distributed.run_learners(job, SPEC, handles)["weights_sha256"] == whole["weights_sha256"]
    ranks = defaultdict(set)
    for node, lanes in ray.get([handle.lanes.remote() for handle in handles]):
        ranks[node] |= {lane % 2 for lane in lanes}
    assert sorted(map(sorted, ranks.values())) == [[0], [1]]


@pytest.mark.parametrize("victim", ["learner", "board"])
def test_learners_that_share_weights_survive_the_death_of(victim, cluster, small):
    """Both learners are on one node, both actors on the other: one puts each version, and the other sends it on."""
    recipe = replace(small.recipe, langevin=replace(small.recipe.langevin, steps=300))
    job = override(small, recipe=recipe, learners=2, actors=2, updates=12, cpus_per_learner=0.9)
    Storage.at(job.out).write_json("job.json", to_json(job))
    whole = run(override(job, learners=0, actors=0, out=job.out + "-plain"))
    there = NodeAffinitySchedulingStrategy(cluster[1][1].node_id, soft=False)
    remote = ray.remote(num_cpus=0.9, scheduling_strategy=there)(ChainActor)
    handles, killed = [remote.remote(job.recipe, SPEC, 1) for _ in range(2)], []
    ray.get([handle.pid.remote() for handle in handles])
    threading.Thread(target=kill_after_a_checkpoint, args=(Path(job.out), victim, killed), daemon=True).start()
    result = distributed.run_learners(job, SPEC, handles)
    assert len(killed) == 1
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert result["gradient_evaluations"] == whole["gradient_evaluations"]
    assert result["faults"]["learner_restarts"] == 1


def kill_after_a_checkpoint(out, victim, killed):
    """Kill the learner that puts the weights, which its TensorBoard file names, or the board where it shows them."""
    while not (out / "checkpoints" / "update-00000004" / "manifest.json").exists():
        time.sleep(0.02)
    (events,) = out.glob("events.out.tfevents.*")
    titles = [(one.pid, " ".join(one.cmdline())) for one in psutil.Process().children(recursive=True)]
    (board,) = [pid for pid, title in titles if title.startswith("ray::WeightsBoard")]
    killed.append({"learner": int(events.name.split(".")[-2]), "board": board}[victim])
    os.kill(killed[0], signal.SIGKILL)


def wait_for(job, update, runs):
    """Wait until the run has logged the update."""
    metrics = Path(job.out) / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not metrics.exists() or not any(json.loads(line)["update"] >= update for line in whole_lines(metrics)):
        assert time.monotonic() < deadline
        assert runs.is_alive()
        time.sleep(0.2)


def whole_lines(metrics):
    return [line for line in metrics.read_text().splitlines() if line.endswith("}")][-1:]
