import os

import pytest
import torch

from pipeline.distributed.map import RayMap


def test_parts_come_in_their_order_from_other_processes(ray_session):
    def squared(x):
        return x * x, os.getpid()

    parts = [torch.full((3,), float(i)) for i in range(7)]
    found = list(RayMap(2, 1)(squared, parts))
    assert [value[0].item() for value, _ in found] == [i * i for i in range(7)]
    assert os.getpid() not in {pid for _, pid in found}


def test_what_a_part_raises_is_raised(ray_session):
    def broken(x):
        raise ValueError("no such part")

    with pytest.raises(ValueError, match="no such part"):
        list(RayMap(1, 1)(broken, [1, 2]))
