"""Floors: what samples of the data's own distribution would have, at the same numbers of samples and items."""

import numpy as np
import pytest
import torch

from pipeline.data.dataset import Dataset
from pipeline.data.sources import DENSITIES
from pipeline.evaluation.comparison import density_comparison, feature_comparison
from pipeline.evaluation.judges.features import coordinate_features
from pipeline.rng import generator

ITEMS, DIMENSIONS, REPEATS = 400, 8, 40


def gaussians(n, seed):
    return torch.randn(n, DIMENSIONS, generator=generator(seed))


@pytest.mark.parametrize("n", [50, 400, 2000])
def test_a_floor_is_the_distance_of_as_many_exact_samples(n):
    ways = [feature_comparison(coordinate_features(), Dataset.from_arrays(gaussians(ITEMS, seed))) for seed in range(5)]
    exact = [way.distance(gaussians(n, 1000 + i)) for i in range(REPEATS) for way in ways]
    floors = [way.distance_floor(n) for way in ways]
    by_reference = np.std([np.mean(exact[i::5]) for i in range(5)], ddof=1)  # one reference is shared by all repeats
    error = 3 * (by_reference + np.std(floors, ddof=1)) / 5**0.5
    assert abs(np.mean(exact) - np.mean(floors)) < error
    assert error < 0.25 * np.mean(exact)


def test_a_floor_rises_as_samples_become_few():
    way = feature_comparison(coordinate_features(), Dataset.from_arrays(gaussians(ITEMS, 0)))
    floors = [way.distance_floor(n) for n in (20, 100, 500)]
    assert floors == sorted(floors, reverse=True)
    assert way.floor(100)["frechet_floor"].standard_error > 0


def test_every_number_has_a_floor_beside_it():
    way = feature_comparison(coordinate_features(), Dataset.from_arrays(gaussians(ITEMS, 0)))
    assert {f"{name}_floor" for name in way.all(gaussians(100, 1))} == way.floor(100).keys()


def test_the_floor_of_a_known_density_is_that_of_exact_samples():
    truth = DENSITIES["rings"]
    way = density_comparison(truth)
    exact = [way.distance(truth.sample(100, generator(1000 + i))) for i in range(8)]
    assert abs(way.distance_floor(100) - np.mean(exact)) < 3 * np.std(exact)
    assert way.distance_floor(1000) < 0.5 * np.mean(exact)
