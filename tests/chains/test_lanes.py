import numpy as np
import pytest

from pipeline.chains.bank import Bank
from pipeline.chains.lanes import Lane, batch_indices, lanes_of_rank
from pipeline.recipe import ChainSettings


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_every_lane_is_worked_once_whatever_the_ranks(world):
    dealt = [lane for rank in range(world) for lane in lanes_of_rank(12, rank, world)]
    assert sorted(lane.index for lane in dealt) == list(range(12))


@pytest.mark.parametrize(("items", "n"), [(103, 5), (40, 7), (12, 6)])
def test_an_epoch_sees_each_item_of_the_lane_once(items, n):
    for p in range(4):
        lane = Lane(p, 4)
        own = lane.size(items)
        drawn = np.concatenate([batch_indices(lane, items, n, update, seed=0) for update in range(3 * own)])
        for epoch in range(3 * n):
            one = drawn[epoch * own : (epoch + 1) * own]
            assert sorted(one) == list(range(p, items, 4))
        assert not np.array_equal(drawn[:own], drawn[own : 2 * own])


def test_order_is_a_function_of_seed_and_update():
    lane = Lane(1, 2)
    assert np.array_equal(batch_indices(lane, 100, 8, 30, seed=4), batch_indices(lane, 100, 8, 30, seed=4))
    assert not np.array_equal(batch_indices(lane, 100, 8, 30, seed=4), batch_indices(lane, 100, 8, 30, seed=5))


def test_too_few_items_are_drawn_with_replacement_by_all_lanes():
    drawn = np.concatenate([batch_indices(Lane(p, 8), 3, 4, u, seed=0) for p in range(8) for u in range(10)])
    assert set(drawn) == {0, 1, 2}


@pytest.mark.parametrize("world", range(1, 9))
def test_each_datum_and_slot_is_in_one_place_whatever_the_ranks(world):
    for lanes in range(1, 17):
        for items in (lanes, 37, 64):
            dealt = [lane for rank in range(world) for lane in lanes_of_rank(lanes, rank, world)]
            owned = [i for lane in dealt for i in range(lane.index, items, lane.count)]
            assert sorted(owned) == list(range(items))
            slots = [(lane.index + lane.count * j) for lane in dealt for j in range(lane.size(items))]
            assert sorted(slots) == list(range(items))
            bank = Bank(ChainSettings(count=lanes, bank=items), dealt, items)
            assert sum(map(len, bank.filled.values())) == items
            epoch = [batch_indices(lane, items, lane.size(items), update=0, seed=3) for lane in dealt]
            if items >= lanes:
                assert sorted(np.concatenate(epoch)) == list(range(items))
            shares = [len(lanes_of_rank(lanes, rank, world)) for rank in range(world)]
            assert max(shares) - min(shares) <= 1
