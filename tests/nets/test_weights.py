import numpy as np
import pytest
import torch

from pipeline.nets import weights
from pipeline.nets.conv import ConvEnergy
from pipeline.rng import seeded


def nets(seed):
    with seeded(seed):
        return {"energy": ConvEnergy((3, 16, 16), 8, 0.2), "other": torch.nn.BatchNorm1d(3)}


def test_loading_keeps_strides_and_bits():
    source, target = nets(0), nets(1)
    strides = [p.stride() for p in target["energy"].parameters()]
    weights.load(target, weights.flatten(source))
    assert [p.stride() for p in target["energy"].parameters()] == strides
    inner = target["energy"][2].weight
    assert inner.is_contiguous(memory_format=torch.channels_last)
    assert not inner.is_contiguous()
    x = torch.rand(4, 3, 16, 16)
    assert torch.equal(target["energy"](x), source["energy"](x))
    assert weights.digest(target) == weights.digest(source)


def test_the_order_does_not_depend_on_the_memory_layout():
    one, two = nets(0), nets(0)
    two["energy"].to(memory_format=torch.contiguous_format)
    assert np.array_equal(weights.flatten(one), weights.flatten(two))


def test_buffers_are_part_of_the_array():
    one = nets(0)
    one["other"].running_mean += 5
    two = nets(0)
    weights.load(two, weights.flatten(one))
    assert torch.equal(two["other"].running_mean, torch.full((3,), 5.0))


def test_copies_for_chains_leave_the_callers_networks_as_they_were():
    one = nets(0)
    one["energy"][0].requires_grad_(False)
    flags = [p.requires_grad for p in one["energy"].parameters()]
    copies = weights.eval_copy(one)
    assert weights.digest(copies) == weights.digest(one)
    assert not any(net.training for net in copies.values())
    assert not any(p.requires_grad for net in copies.values() for p in net.parameters())
    before = weights.digest(one)
    weights.load(copies, weights.flatten(nets(1)))
    assert weights.digest(one) == before != weights.digest(copies)
    assert all(net.training for net in one.values())
    assert [p.requires_grad for p in one["energy"].parameters()] == flags


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match="weights"):
        weights.load(nets(0), np.zeros(10, np.float32))
