"""On a GPU the lanes of one process move as one batch: the numbers of lane by lane, by half of the operators."""

import numpy as np
import pytest
import stages
from counting import GPU
from running import sentences_in
from simulated_gpu import simulated_gpu
from small_recipes import override, with_recipe

from pipeline.chains import local_pool
from pipeline.nets.weights import flatten


@pytest.mark.parametrize("name", ["short_run on images", "latent_prior on points"])
def test_two_lanes_take_the_operators_of_one_and_their_noise(name, small, tmp_path, monkeypatch):
    with simulated_gpu() as record:
        worker = stages.make_worker(with_recipe(override(small, lanes=2), name, sentences_in(tmp_path)), GPU)
        tasks, weights = worker.tasks(0, 0), flatten(worker.learner.nets)
        assert len(tasks) == 2 * len(worker.job.recipe.chains)

        def move():
            before = record.operators.total()
            worker.pool.submit(0, tasks, weights)
            return worker.pool.collect(0), record.operators.total() - before

        together, few = move()
        monkeypatch.setattr(local_pool, "batches_of_tasks", lambda tasks, device: [[task] for task in tasks])
        alone, many = move()
    assert few < 0.6 * many
    assert together.keys() == alone.keys()
    for key, result in together.items():
        for number in ("x", "energy", "grad_norm", "rms_displacement"):
            expected = getattr(alone[key], number)
            np.testing.assert_allclose(getattr(result, number), expected, 1e-5, 1e-5, err_msg=f"{key} {number}")
