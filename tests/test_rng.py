from itertools import product

import torch

from pipeline.rng import fold, seeded


def test_fold_tells_every_place_apart():
    places = list(product((0, 1), (0, 1), ("chain", "data"), range(20), (0, 1)))
    seeds = {fold(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_fold_is_the_same_everywhere():
    assert fold(3, 0, "chain", 7, 1) == 7071657033395470026


def test_seeded_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(1):
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(1):
        assert torch.equal(inside, torch.rand(3))
