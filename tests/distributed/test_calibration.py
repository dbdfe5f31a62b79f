"""Costs measured through Ray."""

import pytest

from pipeline.distributed import calibration
from pipeline.errors import InputError
from pipeline.planning.costs import from_json, to_json


@pytest.mark.slow
def test_a_calibration_has_every_cost(ray_session, small, monkeypatch):
    for name, value in (("UPDATES", 5), ("PASSES", 1), ("LEARNER_SECONDS", 1.0)):
        monkeypatch.setattr(calibration, name, value)
    costs = calibration.calibrate(small)
    ray, job = costs.ray, costs.job
    for seconds in (ray.put.fixed, ray.submit.fixed, ray.receive.fixed, ray.wait, job.step, job.learn(4)):
        assert 0 < seconds < 1
    assert 0 <= ray.wake < 1
    assert 0 <= ray.train < 8
    assert ray.reduce(4_000_000) > ray.reduce(0) > 0
    assert job.chains["model"].seconds(16) > job.chains["model"].seconds(4) > 0
    assert costs.memory.actor > 10**8
    assert from_json(to_json(costs)) == costs


def test_no_gpu_is_one_line(ray_session, small):
    with pytest.raises(InputError, match="no machine here has one"):
        calibration.calibrate(small, on_gpu=True)
