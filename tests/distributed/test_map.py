import os

import pytest
import torch

from pipeline.distributed.map import RayMap

pytestmark = pytest.mark.xdist_group("ray")


def test_results_come_in_the_order_of_the_parts_from_other_processes(ray_session):
    def square(x):
        return x * x, os.getpid()

    parts = [torch.full((3,), float(i)) for i in range(7)]
    results = list(RayMap(2, 1)(square, parts))
    assert [value[0].item() for value, _ in results] == [i * i for i in range(7)]
    assert os.getpid() not in {pid for _, pid in results}


def test_an_exception_of_a_part_is_raised(ray_session):
    def broken(x):
        raise ValueError("no such part")

    with pytest.raises(ValueError, match="no such part"):
        list(RayMap(1, 1)(broken, [1, 2]))
