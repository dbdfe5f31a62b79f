import time

import pytest

from pipeline.distributed.cluster import bundles, connected, missing, wait_for_resources
from pipeline.errors import InputError
from pipeline.runs.job import override


def test_what_is_missing_is_said_by_kind(small):
    job = override(small, learners=2, actors=4, gpus_per_actor=1.0)
    assert bundles(job) == [{"CPU": 0.5}] * 2 + [{"CPU": 0.5, "GPU": 1.0}] * 4
    assert missing(bundles(job), [{"CPU": 3.0, "GPU": 4.0}]) == ""
    assert missing(bundles(job), [{"CPU": 2.0}]) == "3 CPU (2 there) and 4 GPU (0 there)"


def test_each_part_has_to_fit_on_one_machine():
    assert missing([{"CPU": 2.0}] * 3, [{"CPU": 2.0}] * 3) == ""
    assert missing([{"CPU": 4.0}], [{"CPU": 2.0}] * 3) == "a machine with 4 CPU left"
    assert (
        missing([{"CPU": 1.0, "GPU": 1.0}], [{"CPU": 8.0}, {"CPU": 0.0, "GPU": 1.0}])
        == "a machine with 1 CPU and 1 GPU left"
    )


def test_asking_for_too_much_is_an_error_at_once(ray_session, small):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"need 40 CPU \(2 there\)"):
        wait_for_resources(override(small, actors=4, cpus_per_actor=10.0))
    assert time.monotonic() - began < 2


def test_a_cluster_that_does_not_answer_is_refused(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1"), connected():
        pass


def test_waiting_ends_at_the_deadline(ray_session, small, capsys):
    with pytest.raises(InputError, match=r"need 1 GPU \(0 there\), still, after"):
        wait_for_resources(override(small, actors=1, gpus_per_actor=1.0, wait_for_resources=1.5))
    assert "waiting up to 1.5 s" in capsys.readouterr().err
