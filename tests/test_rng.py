from itertools import product

import torch

from pipeline.rng import fold, generator, initial_noise, seeded, standard_normal


def test_fold_gives_every_place_a_seed_of_its_own():
    places = list(product((0, 1), (0, 1), ("chain", "data"), range(20), (0, 1)))
    seeds = {fold(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_fold_is_the_same_everywhere():
    assert fold(3, 0, "chain", 7, 1) == 7071657033395470026


def test_seeded_restores_the_global_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(1):
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(1):
        assert torch.equal(inside, torch.rand(3))


def test_initial_noise_has_its_law():
    shape, n = (100, 400), 40_000
    gaussian, uniform = (initial_noise(law, shape, generator(0)) for law in ("gaussian", "uniform"))
    assert torch.equal(gaussian, standard_normal(shape, generator(0)))
    assert abs(gaussian.mean()) < 4 / n**0.5
    assert abs(gaussian.var() - 1) < 4 * (2 / n) ** 0.5
    assert uniform.abs().max() <= 1
    assert abs(uniform.mean()) < 4 * (1 / 3 / n) ** 0.5
    assert abs(uniform.square().mean() - 1 / 3) < 4 * (4 / 45 / n) ** 0.5
