"""The pool, with actors that know neither torch nor chains."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.distributed import actor_pool
from pipeline.distributed.actor_pool import ActorPool
from pipeline.errors import TaskTimeout

pytestmark = pytest.mark.xdist_group("ray")

FLAT = np.zeros(3, np.float32)


def tasks(n):
    return [SimpleNamespace(chain="model", lane=SimpleNamespace(index=p), seed=10 * p) for p in range(n)]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(actor_pool, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(actor_pool, "START_SECONDS", 1.0)
    monkeypatch.setattr(actor_pool, "POLL_SECONDS", 0.02)


@pytest.fixture
def actors(ray_session):
    class Actor:  # defined here, so that it travels to the actors by value
        """Returns its name and the task's seed; hangs from the given call on. The first call takes a while."""

        def __init__(self, name, hangs_from=10**9, start_seconds=0.0):
            self.name, self.calls, self.hangs_from, self.start_seconds = name, 0, hangs_from, start_seconds

        def advance(self, task, weights):
            self.calls, self.last = self.calls + 1, [ref.hex() for ref in weights]
            if self.calls >= self.hangs_from:
                time.sleep(1000)
            if self.calls == 1:
                time.sleep(self.start_seconds)
            return self.name, task.seed

        def weight_ids(self):
            return self.last

    started = []

    def start(*settings):
        remote = ray_session.remote(num_cpus=0.1)(Actor)
        started.extend(remote.remote(*s) for s in settings)
        ray_session.get([actor.__ray_ready__.remote() for actor in started])
        return started

    yield start
    for actor in started:
        ray_session.kill(actor)


def test_results_come_by_chain_and_lane_in_the_requested_order(actors):
    pool = ActorPool(actors(("a",), ("b",)))
    for update in range(3):
        pool.submit(update, tasks(4), FLAT)
    assert pool.next == 3
    collected = [pool.collect(update) for update in range(3)]
    for results in collected:
        assert {key: seed for key, (_, seed) in results.items()} == {("model", p): 10 * p for p in range(4)}
    assert {name for name, _ in collected[0].values()} == {"a", "b"}  # later ones may go to whoever is done first


def test_drained_results_can_still_be_collected(actors):
    pool = ActorPool(actors(("a",)))
    pool.submit(0, tasks(2), FLAT)
    pool.submit(1, tasks(2), FLAT)
    drained = {update: dict(results) for update, results in pool.drain().items()}
    assert sorted(drained) == [0, 1]
    assert pool.collect(0) == drained[0]
    assert pool.collect(1) == drained[1]


def test_a_late_task_also_goes_to_another_actor(actors, impatient):
    pool = ActorPool(actors(("stuck", 1), ("alive",)))
    open_requests = []
    for update in range(4):
        pool.submit(update, tasks(3), FLAT)
        assert pool.collect(update) == {("model", p): ("alive", 10 * p) for p in range(3)}
        open_requests.append(sum(actor == 0 for actor, _ in pool._open.values()))
    assert 1 <= open_requests[0] == open_requests[3]  # the stuck actor gets tasks in the first update only
    assert pool.faults == {"resent": open_requests[0], "died": 0}


def test_late_tasks_do_not_make_the_timeout_longer(actors, impatient):
    pool = ActorPool(actors(("stuck", 1), ("alive",)))
    pool.submit(0, tasks(8), FLAT)
    pool.collect(0)
    assert pool._timeout(1) == 1.0  # five median times of the other tasks are less, those of the late ones more


def test_an_actor_that_starts_slowly_is_not_late_but_is_so_once_it_has_answered(actors, impatient, monkeypatch):
    monkeypatch.setattr(actor_pool, "START_SECONDS", 1000.0)
    pool = ActorPool(actors(("slow", 2, 2.0), ("alive",)))
    for resent in (False, True):  # twice the usual timeout for its first answer, and none to its second task
        pool.submit(pool.next, tasks(2), FLAT)
        names = {name for name, _ in pool.collect(pool.next - 1).values()}
        assert names == ({"alive"} if resent else {"slow", "alive"})
        assert bool(pool.faults["resent"]) == resent


def test_a_task_of_an_actor_that_is_gone_for_good_goes_to_another(actors, ray_session):
    pool = ActorPool(actors(("gone", 1), ("alive",)))
    pool.submit(0, tasks(2), FLAT)
    ray_session.kill(pool.actors[0])
    assert pool.collect(0) == {("model", p): ("alive", 10 * p) for p in range(2)}
    assert pool.faults["died"] == pool.faults["resent"] >= 1


def test_an_update_may_be_submitted_again_while_later_ones_are_pending(actors):
    pool = ActorPool(actors(("a",), ("b",)))
    for update in range(3):
        pool.submit(update, tasks(2), FLAT)
    assert len(pool.collect(0)) == 2
    pool.submit(0, tasks(3), FLAT)
    assert pool.next == 3
    assert [len(pool.collect(update)) for update in range(3)] == [3, 2, 2]


def test_a_task_without_a_result_is_named(actors, monkeypatch):
    monkeypatch.setattr(actor_pool, "TIMEOUT_SECONDS", 0.02)
    monkeypatch.setattr(actor_pool, "START_SECONDS", 0.02)
    pool = ActorPool(actors(("stuck", 1)))
    pool.submit(0, tasks(1), FLAT)
    with pytest.raises(TaskTimeout, match="model chains of lane 0, seed 0: no result after 5 requests"):
        pool.collect(0)


def test_weights_that_never_change_go_to_the_object_store_once(actors, ray_session, monkeypatch):
    put, sizes = ray_session.put, []
    monkeypatch.setattr(actor_pool.ray, "put", lambda value: sizes.append(value.size) or put(value))
    pool, fixed, ids = ActorPool(actors(("a",))), np.zeros(5, np.float32), []
    for update, others in enumerate((fixed, fixed, None, fixed, fixed, fixed.copy())):
        pool.submit(update, tasks(2), FLAT, others)
        assert len(pool.collect(update)) == 2
        ids.append(ray_session.get(pool.actors[0].weight_ids.remote()))
    assert [len(refs) for refs in ids] == [2, 2, 1, 2, 2, 2]
    assert ids[0][1] == ids[1][1]
    assert ids[3][1] == ids[4][1] != ids[5][1]
    assert len({refs[0] for refs in ids}) == 6
    assert sizes.count(3) == 6  # the learning networks' weights, each time
    assert sizes.count(5) == 3  # the others': at first, after a call without them, and for another array
