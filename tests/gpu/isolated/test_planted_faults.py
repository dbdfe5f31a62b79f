"""The simulated GPU finds each mistake that is planted, at its line; and none where there is none."""

import inspect
from pathlib import Path

import planted
import pytest
import torch
from simulated_gpu import simulated_gpu
from simulated_gpu.record import WAITS

HERE = Path(__file__).parent
KINDS = (*WAITS, "float64")
FUNCTIONS = [one for _, one in inspect.getmembers(planted, inspect.isfunction)]


def expected(function):
    """The kind of the mistake and its line, as the comment says."""
    lines, first = inspect.getsourcelines(planted.Masked if "way_back" in function.__name__ else function)
    where = next(i for i, line in enumerate(lines) if line.rstrip().endswith(("refused", "error", *KINDS)))
    return lines[where].rpartition("# ")[2].strip(), first + where


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_planted_fault_is_found_at_its_line(function):
    kind, line = expected(function)
    with simulated_gpu(HERE, ("planted.py",)) as record:
        x = torch.ones(3, 4).to("cuda")
        if kind == "type error":
            with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
                function(x)
        elif kind == "refused":
            with pytest.raises(RuntimeError):
                function(x)
            assert [place for place, _ in record.refusals] == [f"planted.py:{line}"]
        else:
            function(x)
            assert (kind, line) in {(event.kind, event.line) for event in record.events}


def setup_and_step(device):
    """A step of a chain under a network, on a device."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).to(device)
    return step(net, torch.ones(3, 4).to(device), torch.Generator(device).manual_seed(1)).cpu()


def step(net, x, rng):
    """What a sampler may do."""
    state = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(net(state).sum(), state)
    noise = torch.empty_like(x).normal_(generator=rng)
    x = torch.where(slope.norm(dim=1, keepdim=True) > 0.1, x - 0.1 * slope + noise, x)
    x[:, 0] = 0.0
    return x.add_(torch.zeros(4, device=x.device)).index_select(0, torch.arange(2, device=x.device)) * 2.0


def test_a_step_that_keeps_to_the_device_does_not_wait_and_gives_the_cpus_numbers():
    with simulated_gpu(HERE, ("test_planted_faults.py",)) as record:
        there = setup_and_step("cuda")
    assert torch.equal(there, setup_and_step("cpu"))
    assert "step" not in {event.function for event in record.events}
    assert record.operators.total() > 10


def test_pinned_memory_lets_copies_come_later():
    with simulated_gpu(HERE, ("test_planted_faults.py",)) as record:
        host = torch.ones(4, pin_memory=True)
        assert host.is_pinned()
        x = torch.empty(4, device="cuda").copy_(host, non_blocking=True)
        host.copy_(x, non_blocking=True)
        assert not record.events
        x.copy_(host)
        x.copy_(torch.zeros(4), non_blocking=True)
    assert {(event.kind, count) for event, count in record.events.items()} == {("to device", 1)}


def test_what_is_on_the_device_says_so_and_is_not_copied_there_again():
    with simulated_gpu() as record:
        x = torch.ones(2, device="cuda")
        assert x.device == torch.device("cuda", 0)
        assert x.is_cuda
        assert x.to("cuda") is x
        assert x.cuda() is x
        assert not record.waits()
        net = torch.nn.Linear(2, 2).to("cuda")
        assert all(isinstance(p, torch.nn.Parameter) and p.is_cuda for p in net.parameters())


def test_operators_are_counted_but_not_views_and_copies():
    with simulated_gpu() as record:
        x = torch.ones(2, 3).to("cuda")
        x.view(-1)[:3].t().cpu()
        assert not record.operators
        y = x + 1
        torch.addmm(y, x.t()[:2, :2], x).relu_()
        torch._foreach_add_([x, y], 1.0)
    assert record.operators.total() == 4


def test_autocast_casts_factors_at_each_call_and_keeps_sums_exact():
    with simulated_gpu() as record:
        net, x = torch.nn.Linear(3, 2).to("cuda").requires_grad_(False), torch.ones(2, 3, device="cuda")
        with torch.autocast("cuda", torch.bfloat16):
            assert net(x).dtype == torch.bfloat16
            casts = record.operators["aten._to_copy.default"]
            assert casts == 3  # the state, the weight and the bias
            assert net(x).softmax(1).dtype == torch.float32
            assert record.operators["aten._to_copy.default"] == 2 * casts + 1
        assert net(x).dtype == torch.float32
