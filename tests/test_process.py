"""Which device a process works on."""

import pytest
import torch

from jobs.cli.open_run import RunArgs
from jobs.evaluate import Evaluate
from jobs.sample import Sample
from pipeline.errors import InputError
from pipeline.process import pick_device
from pipeline.runs.job import ResourceSettings


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_a_process_without_ray_takes_the_gpu_that_is_there(gpu):
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")


def test_beside_processes_of_ray_a_process_takes_no_gpu_that_ray_did_not_give_it(gpu):
    assert pick_device("auto", on_ray=True) == pick_device("cpu", on_ray=True) == torch.device("cpu")
    with pytest.raises(InputError, match=r"^device=cuda: Ray gives GPUs to its own processes"):
        pick_device("cuda", on_ray=True)


@pytest.mark.parametrize(("learners", "actors", "observers"), [(1, 0, 0), (0, 2, 0), (0, 0, 1)])
def test_a_run_is_on_ray_if_any_of_its_processes_is(learners, actors, observers):
    assert ResourceSettings(learners=learners, actors=actors, observers=observers).on_ray
    assert not ResourceSettings(learners=0, actors=0).on_ray


def test_a_command_with_actors_is_on_ray():
    assert Evaluate("run", actors=2).on_ray
    assert Sample(run="run", out="samples", actors=1).on_ray
    assert not Evaluate("run").on_ray
    assert not RunArgs("run").on_ray
