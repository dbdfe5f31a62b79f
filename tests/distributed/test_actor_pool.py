"""The pool, with actors that know neither torch nor chains."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.distributed import actor_pool as pool_module
from pipeline.distributed.actor_pool import ActorPool
from pipeline.errors import TaskTimeout

FLAT = np.zeros(3, np.float32)


def tasks(n):
    return [SimpleNamespace(chain="model", lane=SimpleNamespace(index=p), seed=10 * p) for p in range(n)]


@pytest.fixture
def actors(ray_session):
    class Actor:  # here, so that it travels to the actors by value
        """Says who answered; stuck from the given call on."""

        def __init__(self, name, stuck_from=10**9):
            self.name, self.calls, self.stuck_from = name, 0, stuck_from

        def advance(self, task, weights):
            self.calls, self.last = self.calls + 1, [ref.hex() for ref in weights]
            if self.calls >= self.stuck_from:
                time.sleep(1000)
            return self.name, task.seed

        def referred(self):
            return self.last

    made = []

    def make(*settings):
        remote = ray_session.remote(num_cpus=0.1)(Actor)
        made.extend(remote.remote(*s) for s in settings)
        return made

    yield make
    for actor in made:
        ray_session.kill(actor)


def test_answers_come_by_chain_and_lane_in_the_order_asked_for(actors):
    pool = ActorPool(actors(("a",), ("b",)))
    for update in range(3):
        pool.submit(update, tasks(4), FLAT)
    assert pool.next == 3
    for update in range(3):
        found = pool.collect(update)
        assert {key: seed for key, (_, seed) in found.items()} == {("model", p): 10 * p for p in range(4)}
        assert {name for name, _ in found.values()} == {"a", "b"}


def test_drained_answers_stay_to_be_collected(actors):
    pool = ActorPool(actors(("a",)))
    pool.submit(0, tasks(2), FLAT)
    pool.submit(1, tasks(2), FLAT)
    drained = {update: dict(answers) for update, answers in pool.drain().items()}
    assert sorted(drained) == [0, 1]
    assert pool.collect(0) == drained[0]
    assert pool.collect(1) == drained[1]


def test_a_late_task_goes_to_another_actor_as_well(actors, ray_session, monkeypatch):
    monkeypatch.setattr(pool_module, "PATIENCE", 2.0)
    monkeypatch.setattr(pool_module, "LOOK", 0.02)
    pool = ActorPool(actors(("stuck", 1), ("alive",)))
    ray_session.get([actor.__ray_ready__.remote() for actor in pool.actors])
    asked = []
    for update in range(4):
        pool.submit(update, tasks(3), FLAT)
        assert pool.collect(update) == {("model", p): ("alive", 10 * p) for p in range(3)}
        asked.append(sum(actor == 0 for actor, _ in pool._open.values()))
    assert 1 <= asked[0] == asked[3]  # the stuck one was asked in the first update, and not once more after
    assert pool.faults == {"resent": asked[0], "died": 0}


def test_a_straggler_does_not_make_the_pool_more_patient(actors, ray_session, monkeypatch):
    monkeypatch.setattr(pool_module, "PATIENCE", 1.0)
    monkeypatch.setattr(pool_module, "LOOK", 0.1)
    pool = ActorPool(actors(("stuck", 1), ("alive",)))
    ray_session.get([actor.__ray_ready__.remote() for actor in pool.actors])
    pool.submit(0, tasks(8), FLAT)
    pool.collect(0)
    assert pool._patience() == 1.0  # five medians of what the others took, not of what the late ones did


def test_an_actor_that_is_gone_for_good_leaves_its_task_to_another(actors, ray_session):
    pool = ActorPool(actors(("gone", 1), ("alive",)))
    pool.submit(0, tasks(2), FLAT)
    ray_session.kill(pool.actors[0])
    assert pool.collect(0) == {("model", p): ("alive", 10 * p) for p in range(2)}
    assert pool.faults["died"] == pool.faults["resent"] >= 1


def test_an_update_may_be_submitted_again_while_later_ones_are_out(actors):
    pool = ActorPool(actors(("a",), ("b",)))
    for update in range(3):
        pool.submit(update, tasks(2), FLAT)
    assert len(pool.collect(0)) == 2
    pool.submit(0, tasks(3), FLAT)
    assert pool.next == 3
    assert [len(pool.collect(update)) for update in range(3)] == [3, 2, 2]


def test_a_task_that_nobody_answers_is_named(actors, monkeypatch):
    monkeypatch.setattr(pool_module, "PATIENCE", 0.1)
    pool = ActorPool(actors(("stuck", 1)))
    pool.submit(0, tasks(1), FLAT)
    with pytest.raises(TaskTimeout, match="model chains of lane 0, seed 0: no answer in 5 tries"):
        pool.collect(0)


def test_weights_that_never_change_are_put_once(actors, ray_session, monkeypatch):
    put, sizes = ray_session.put, []
    monkeypatch.setattr(pool_module.ray, "put", lambda value: sizes.append(value.size) or put(value))
    pool, fixed, referred = ActorPool(actors(("a",))), np.zeros(5, np.float32), []
    for update, others in enumerate((fixed, fixed, None, fixed, fixed, fixed.copy())):
        pool.submit(update, tasks(2), FLAT, others)
        assert len(pool.collect(update)) == 2
        referred.append(ray_session.get(pool.actors[0].referred.remote()))
    assert [len(refs) for refs in referred] == [2, 2, 1, 2, 2, 2]
    assert referred[0][1] == referred[1][1]
    assert referred[3][1] == referred[4][1] != referred[5][1]
    assert len({refs[0] for refs in referred}) == 6
    assert sizes.count(3) == 6  # those that learn, each time
    assert sizes.count(5) == 3  # the others: at first, after a call without them, and another array
