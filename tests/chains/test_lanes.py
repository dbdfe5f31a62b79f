import numpy as np
import pytest

from pipeline.chains.bank import Bank
from pipeline.chains.lanes import Lane, batch_indices, lanes_of_rank
from pipeline.recipe import ChainSettings


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_every_lane_is_worked_once_for_any_number_of_ranks(world):
    lanes_of_all = [lane for rank in range(world) for lane in lanes_of_rank(12, rank, world)]
    assert sorted(lane.index for lane in lanes_of_all) == list(range(12))


@pytest.mark.parametrize(("items", "n"), [(103, 5), (40, 7), (12, 6)])
def test_an_epoch_has_each_item_of_the_lane_once(items, n):
    for p in range(4):
        lane = Lane(p, 4)
        own = lane.size(items)
        indices = np.concatenate([batch_indices(lane, items, n, update, seed=0) for update in range(3 * own)])
        for epoch in range(3 * n):
            one = indices[epoch * own : (epoch + 1) * own]
            assert sorted(one) == list(range(p, items, 4))
        assert not np.array_equal(indices[:own], indices[own : 2 * own])


def test_order_is_a_function_of_seed_and_update():
    lane = Lane(1, 2)
    assert np.array_equal(batch_indices(lane, 100, 8, 30, seed=4), batch_indices(lane, 100, 8, 30, seed=4))
    assert not np.array_equal(batch_indices(lane, 100, 8, 30, seed=4), batch_indices(lane, 100, 8, 30, seed=5))


def test_with_few_items_all_lanes_draw_with_replacement():
    indices = np.concatenate([batch_indices(Lane(p, 8), 3, 4, u, seed=0) for p in range(8) for u in range(10)])
    assert set(indices) == {0, 1, 2}


@pytest.mark.parametrize("world", range(1, 9))
def test_each_datum_and_slot_has_one_place_for_any_number_of_ranks(world):
    for lanes in range(1, 17):
        for items in (lanes, 37, 64):
            lanes_of_all = [lane for rank in range(world) for lane in lanes_of_rank(lanes, rank, world)]
            owned = [i for lane in lanes_of_all for i in range(lane.index, items, lane.count)]
            assert sorted(owned) == list(range(items))
            slots = [(lane.index + lane.count * j) for lane in lanes_of_all for j in range(lane.size(items))]
            assert sorted(slots) == list(range(items))
            bank = Bank(ChainSettings(count=lanes, bank=items), lanes_of_all, items)
            assert sum(map(len, bank.filled.values())) == items
            epoch = [batch_indices(lane, items, lane.size(items), update=0, seed=3) for lane in lanes_of_all]
            if items >= lanes:
                assert sorted(np.concatenate(epoch)) == list(range(items))
            shares = [len(lanes_of_rank(lanes, rank, world)) for rank in range(world)]
            assert max(shares) - min(shares) <= 1
