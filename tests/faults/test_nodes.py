"""A machine that is lost, with a learner and actors on it, and another that joins."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from running import CPU, run

from pipeline.batch import Spec
from pipeline.distributed import train as distributed
from pipeline.runs.job import Range, check_job, override, to_json
from pipeline.runs.storage import Storage


@pytest.fixture
def cluster():
    """A head that works nothing, and two machines with room for a learner and both actors each."""
    ray.shutdown()  # what other tests may have used
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


def test_a_run_goes_on_when_a_machine_is_lost_and_another_joins(cluster, small, monkeypatch):
    monkeypatch.setattr(distributed, "RESIZE", 3.0)
    long = replace(small.recipe, langevin=replace(small.recipe.langevin, steps=100))
    # one learner a machine: Ray asks how many fit one by all of its CPUs, those of the actors (.4 each) included
    job = override(
        small, recipe=long, learners=Range(1, 2), actors=2, updates=400, cpus_per_learner=1.2, cpus_per_actor=0.4
    )
    check_job(job)
    Storage.at(job.out).write_json("job.json", to_json(job))
    whole = run(override(job, learners=0, actors=0, out=job.out + "-plain"))
    (alive, nodes), found = cluster, {}
    spec = Spec("image", (1, 8, 8), 10)
    carry = lambda: found.update(distributed.run(job, spec, CPU))  # noqa: E731
    runs = threading.Thread(target=carry, daemon=True)
    runs.start()
    wait_for(job, 50, runs)
    alive.remove_node(nodes[0], allow_graceful=False)
    wait_for(job, 150, runs)
    alive.add_node(num_cpus=2)
    runs.join(timeout=400)
    assert not runs.is_alive()
    assert found["weights_sha256"] == whole["weights_sha256"]
    assert found["gradient_evaluations"] == whole["gradient_evaluations"]
    assert found["faults"]["learner_restarts"] >= 1
    owner = Storage.at(job.out).read_json("lease.json")
    print(f"{found['faults']}, {found['wall_seconds']:.0f} s, {owner}")


def wait_for(job, update, runs):
    """Until the run has logged the update."""
    metrics = Path(job.out) / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not metrics.exists() or not any(json.loads(line)["update"] >= update for line in whole_lines(metrics)):
        assert time.monotonic() < deadline
        assert runs.is_alive()
        time.sleep(0.2)


def whole_lines(metrics):
    return [line for line in metrics.read_text().splitlines() if line.endswith("}")][-1:]
