"""Gradients against the analytic ones; ranks against one rank."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from running import CPU, answer, parts
from torch import nn

from pipeline.batch import Spec
from pipeline.chains.lanes import Lane, lanes_of_rank
from pipeline.errors import Diverged
from pipeline.recipes.short_run import ShortRun
from pipeline.training.learner import Learner, _pairwise_sum

VECTOR = Spec("vector", (1,), 0)


class Precision(nn.Module):
    """U = theta x^2 / 2, of which exp(-U) is N(0, 1/theta)."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.theta * x.square().sum(1) / 2


@dataclass(frozen=True)
class OneParameter(ShortRun):
    def nets(self, spec):
        return {"energy": Precision()}

    def optimizers(self, nets):
        return {"energy": torch.optim.SGD(nets["energy"].parameters(), self.lr)}


def test_gradient_is_that_of_maximum_likelihood():
    # exact samples of N(0, 1/theta): d/dtheta (E_data U - E_model U) = (E_data x^2 - 1/theta) / 2
    n, theta, rate = 200_000, 2.0, 0.1
    rng = np.random.default_rng(0)
    data = rng.normal(0, 1.5, (n, 1)).astype(np.float32)
    model = rng.normal(0, theta**-0.5, (n, 1)).astype(np.float32)
    learner = Learner(OneParameter(data_noise=0.0, lr=rate), VECTOR, lanes_of_rank(4), 0, CPU)
    learner.update(0, *parts(learner.lanes, data, model), {})
    moved = theta - learner.nets["energy"].theta.item()
    exact = rate * (1.5**2 - 1 / theta) / 2
    error = rate * np.sqrt((2 * 1.5**4 + 2 * theta**-2) / 4 / n)
    assert abs(moved - exact) < 4 * error


def test_gradient_equals_the_mean_over_the_whole_batch():
    rng = np.random.default_rng(0)
    data, model = (rng.normal(size=(24, 1)).astype(np.float32) for _ in range(2))
    moved = []
    for lanes in (1, 2, 3, 4, 6):
        learner = Learner(OneParameter(data_noise=0.0, lr=1.0), VECTOR, lanes_of_rank(lanes), 0, CPU)
        learner.update(0, *parts(learner.lanes, data, model), {})
        moved.append(2 - learner.nets["energy"].theta.item())
    exact = (np.square(data).mean() - np.square(model).mean()) / 2
    assert moved == pytest.approx([exact] * 5, rel=1e-5)


def test_pairwise_sum_meets_lanes_of_one_rank_first():
    parts = [torch.tensor([float(10**i)], dtype=torch.float64) for i in range(8)]
    whole = _pairwise_sum(parts)
    for world in (2, 4):
        ranks = [_pairwise_sum(parts[r::world]) for r in range(world)]
        assert torch.equal(_pairwise_sum(ranks), whole)
    for n in range(1, 8):
        assert _pairwise_sum(parts[:n]).item() == pytest.approx(sum(10.0**i for i in range(n)))


def test_drift_is_the_change_of_the_energy_in_its_own_spread():
    learner = Learner(OneParameter(data_noise=0.0), VECTOR, lanes_of_rank(1), 0, CPU)
    x = np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32)
    then = 1.5 * np.square(x).sum(1) / 2  # under theta 1.5, while theta is 2 now
    batches, _ = parts(learner.lanes, x, x)
    metrics = learner.update(3, batches, {("model", 0): answer(Lane(0, 1), x, 1, then.astype(np.float32))}, {})
    assert metrics["chains/staleness"] == pytest.approx(0.25, rel=1e-3)
    assert metrics["chains/lag"] == 2
    assert 0 < metrics["chains/staleness_ess"] < 1


def test_drift_of_an_update_is_the_mean_over_lanes_and_is_finite_only_if_every_lanes_is():
    learner = Learner(OneParameter(data_noise=0.0), VECTOR, lanes_of_rank(3), 0, CPU)
    x = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    batches, answers = parts(learner.lanes, x, x)
    assert learner.staleness(0, batches, answers) == 0
    for p, theta in enumerate((1.5, 1.0, 3.0)):  # while it is 2 now
        own = answers["model", p].x
        answers["model", p] = answer(Lane(p, 3), own, 1, (theta * np.square(own).sum(1) / 2).astype(np.float32))
    assert learner.staleness(1, batches, answers) == 0
    assert learner.staleness(3, batches, answers) == pytest.approx((0.25 + 0.5 + 0.5) / 3, rel=1e-4)
    assert learner.update(3, batches, answers, {})["chains/staleness"] == pytest.approx(1.25 / 3, rel=1e-4)
    answers["model", 1].energy[7] = np.nan
    assert np.isnan(learner.staleness(3, batches, answers))


@pytest.mark.parametrize("bad", ["data", "chains"])
def test_a_non_finite_number_names_its_place(bad):
    data, model = np.ones((8, 1), np.float32), np.ones((8, 1), np.float32)
    (data if bad == "data" else model)[6] = np.inf
    learner = Learner(OneParameter(data_noise=0.0), VECTOR, lanes_of_rank(4), 0, CPU)
    before = learner.nets["energy"].theta.item()
    with pytest.raises(Diverged) as caught:
        learner.update(5, *parts(learner.lanes, data, model), {})
    assert caught.value.quantity == {"data": "loss", "chains": "chain states"}[bad]
    assert (caught.value.update, caught.value.lane, caught.value.version) == (5, 2, 0)
    assert learner.nets["energy"].theta.item() == before


@dataclass(frozen=True)
class TwoPlayers(OneParameter):
    turns: tuple[str, ...] = ("one", "two")

    def nets(self, spec):
        return {"one": Precision(), "two": Precision()}

    def optimizers(self, nets):
        return {name: torch.optim.SGD(net.parameters(), 1.0) for name, net in nets.items()}

    def learning_rate_factors(self, update, last):
        return dict.fromkeys(self.turns, 0.5)

    def losses(self, nets, batch, chains, rng, update):
        one, two = nets["one"].theta, nets["two"].theta
        return {"one": one * two, "two": -3 * one * two}, {}


@pytest.mark.parametrize("turns", [("one", "two"), ("two",), ("one",)])
def test_each_player_descends_its_own_loss_from_the_same_point(turns):
    learner = Learner(TwoPlayers(turns=turns), VECTOR, lanes_of_rank(2), 0, CPU)
    x = np.ones((4, 1), np.float32)
    learner.update(0, *parts(learner.lanes, x, x), {})
    expected = {"one": 2 - 0.5 * 2, "two": 2 + 0.5 * 3 * 2}
    for name, net in learner.nets.items():
        assert net.theta.item() == (expected[name] if name in turns else 2)


def test_state_keeps_layouts_and_bits():
    recipe, spec = ShortRun(width=4, data_noise=0.1), Spec("image", (1, 8, 8), 0)
    x = np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(np.float32)

    def advanced(learner, updates):
        for update in updates:
            learner.update(update, *parts(learner.lanes, x, x), {})
        return learner

    straight = advanced(Learner(recipe, spec, lanes_of_rank(2), 0, CPU), range(4))
    half = advanced(Learner(recipe, spec, lanes_of_rank(2), 0, CPU), range(2)).state_dict()
    resumed = Learner(replace(recipe), spec, lanes_of_rank(2), 1, CPU)
    resumed.seed = 0
    resumed.load_state_dict(half)
    moments = [s["exp_avg"].stride() for s in resumed.optimizers["energy"].state.values()]
    assert moments == [p.stride() for p in resumed.nets["energy"].parameters()]
    advanced(resumed, range(2, 4))
    for a, b in zip(straight.nets["energy"].parameters(), resumed.nets["energy"].parameters(), strict=True):
        assert torch.equal(a, b)
