"""Ranks that share weights: one puts a version, the others send the same reference on."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.shared_weights import SharedWeights, WeightsBoard, readers_by_rank, start_board

pytestmark = pytest.mark.xdist_group("ray")


def recording():
    """A class of actors that return the names and sums of the weights they got; made here, to travel by value."""

    class Actor:
        def advance(self, task, weights):
            import ray

            return [(ref.hex(), float(ray.get(ref).sum())) for ref in weights]

    return Actor


def ranks():
    """A class of actors, each a rank: its pool works with one actor, whose weights `source` puts."""

    class Rank:
        def __init__(self, board, rank, source, readers, actor):
            self.pool = ActorPool([actor], SharedWeights(board, rank, [source], readers))

        def send(self, versions, frozen):
            task = SimpleNamespace(chain="model", lane=SimpleNamespace(index=0), seed=0)
            found, fixed = [], np.full(3, frozen, np.float32)
            for version in versions:
                self.pool.submit(version, [task], np.full(5, version, np.float32), fixed)
                found.append(self.pool.collect(version)["model", 0])
            return found

    return Rank


def test_a_reader_waits_and_what_all_have_read_is_dropped():
    board, found = WeightsBoard(), []
    readers = [threading.Thread(target=lambda: found.append(board.read(0, 1))) for _ in range(2)]
    readers[0].start()
    board.post(0, 0, ["other version"], 1)
    board.post(1, 1, ["other rank"], 1)
    time.sleep(0.1)
    assert found == []
    board.post(0, 1, ["wanted"], 2)
    readers[0].join(5)
    assert (found, board.size()) == ([["wanted"]], 3)  # one more has to read it
    readers[1].start()
    readers[1].join(5)
    assert (found, board.size()) == ([["wanted"]] * 2, 2)


def test_readers_are_counted_once_however_many_of_their_actors_get_the_weights():
    assert readers_by_rank([[0, 0, 0], [0, 0, 3], [0], [3, 3]]) == [2, 0, 0, 1]
    assert readers_by_rank([[0], [1]]) == [0, 0]


def test_actors_of_all_ranks_get_the_object_that_one_of_them_has_put(ray_session):
    actors = [ray_session.remote(num_cpus=0.1)(recording()).remote() for _ in range(3)]
    board, sources = start_board(3), [0, 0, 2]
    start = ray_session.remote(num_cpus=0.1)(ranks())
    group = [start.remote(board, r, sources[r], [1, 0, 0][r], actors[r]) for r in range(3)]
    found = ray_session.get([rank.send.remote(range(1, 9), 7) for rank in group])
    for version, (first, second, third) in enumerate(zip(*found, strict=True), 1):
        assert first == second
        assert [total for _, total in first] == [total for _, total in third] == [5 * version, 21]
        assert {name for name, _ in first}.isdisjoint(name for name, _ in third)
    assert len({refs[0] for refs in found[0]}) == 8
    assert len({refs[1] for refs in found[0]}) == 1  # frozen weights are put once
    assert ray_session.get(board.size.remote()) == 0
    for one in [*actors, *group, board]:
        ray_session.kill(one)


def test_the_death_of_the_rank_that_has_put_the_weights_ends_those_that_send_them_on(ray_session):
    """Another rank must not take this for the death of an actor, and stop the run after some more requests."""
    actor, board = ray_session.remote(num_cpus=0.1)(recording()).remote(), start_board(2)
    source = ray_session.remote(num_cpus=0.1)(putting()).remote()
    pool = ActorPool([actor], SharedWeights(board, 1, [0], 0))
    refs = ray_session.get(source.put.remote())
    board.post.remote(0, 0, refs, 1)
    ray_session.get(board.size.remote())
    ray_session.kill(source)
    wait_until_lost(ray_session, refs)
    pool.submit(0, [SimpleNamespace(chain="model", lane=SimpleNamespace(index=0), seed=0)], np.zeros(1, np.float32))
    with pytest.raises(ray_session.exceptions.OwnerDiedError):
        pool.collect(0)
    assert pool.faults == {"resent": 0, "died": 0}
    for one in (actor, board):
        ray_session.kill(one)


def wait_until_lost(ray_session, refs):
    """Ray hears of an owner's death some time after it; until then the store still has what it had put."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            ray_session.get(refs)
        except ray_session.exceptions.OwnerDiedError:
            return
        time.sleep(0.05)
    raise AssertionError("the store still has what a process had put that died a minute ago")


def putting():
    """A class of actors that put weights; made here, to travel by value."""

    class Putting:
        def put(self):
            import ray

            return [ray.put(np.zeros(10**6, np.float32))]

    return Putting
