"""The pool in this process: networks of its own, and results by update."""

import numpy as np
import pytest
from running import CPU

from pipeline.batch import Spec
from pipeline.chains.lanes import Lane
from pipeline.chains.local_pool import LocalPool, Pool
from pipeline.chains.task import ChainTask, advance
from pipeline.nets.weights import digest, eval_copy, flatten, load
from pipeline.recipe import init_networks
from pipeline.recipes.short_run import ShortRun
from pipeline.samplers.langevin import Langevin

RECIPE, SPEC = ShortRun(width=4), Spec("vector", (2,), 0)


def task(lane, version=0):
    x = np.zeros((3, 2), np.float32)
    return ChainTask("model", Lane(lane, 2), np.arange(3), x, None, Langevin(4, 1.0, 0.1), lane, version)


@pytest.fixture
def nets():
    return init_networks(RECIPE, SPEC, 0, CPU)


def test_it_moves_copies_and_leaves_the_callers_networks_as_they_were(nets):
    before, others = digest(nets), flatten(init_networks(RECIPE, SPEC, 1, CPU))
    pool = LocalPool(RECIPE, nets)
    assert isinstance(pool, Pool)
    pool.submit(0, [task(0), task(1)], others)
    results = pool.collect(0)
    assert digest(nets) == before
    assert all(net.training for net in nets.values())
    assert all(p.requires_grad and p.grad is None for net in nets.values() for p in net.parameters())
    moved = eval_copy(nets)
    load(moved, others)
    for lane in (0, 1):
        assert np.array_equal(results["model", lane].x, advance(RECIPE, moved, task(lane)).x)


def test_results_are_collected_once_and_draining_leaves_them_to_be_collected(nets):
    pool = LocalPool(RECIPE, nets)
    for update in range(2):
        pool.submit(update, [task(0, update)], flatten(nets))
    assert pool.next == 2
    assert set(pool.drain()) == {0, 1}
    assert pool.collect(0).keys() == {("model", 0)}
    assert set(pool.drain()) == {1}
    with pytest.raises(KeyError):
        pool.collect(0)
