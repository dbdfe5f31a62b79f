"""Data noise that keeps up with the chains' steps, and what it is for."""

from dataclasses import dataclass

import pytest
import torch

from pipeline.library import fit
from pipeline.recipe import ChainStates
from pipeline.recipes.anatomy import Anatomy
from pipeline.recipes.short_run import ShortRun
from pipeline.samplers.kernel import Stats
from pipeline.samplers.langevin import Langevin


class Wedge(torch.nn.Module):
    """U(x) = a |x|: with drift 1, steps of size a jump across its minimum for ever."""

    def __init__(self, slope):
        super().__init__()
        self.log_slope = torch.nn.Parameter(torch.tensor(slope).log())

    def forward(self, x):
        return self.log_slope.exp() * x.abs().sum(1)


@dataclass(frozen=True)
class ShortRunOfWedge(ShortRun):
    start: float = 1.0

    def nets(self, spec):
        return {"energy": Wedge(self.start)}


@dataclass(frozen=True)
class AnatomyOfWedge(Anatomy):
    start: float = 1.0

    def nets(self, spec):
        return {"energy": Wedge(self.start)}


WEDGES = {"short-run": ShortRunOfWedge, "anatomy": AnatomyOfWedge}


@pytest.mark.parametrize("times", [0.0, 0.5, 2.0])
def test_the_noise_is_the_greater_of_its_own_and_that_of_the_steps(times):
    class Square(torch.nn.Module):
        def forward(self, x):
            return x.square().sum(1) / 2

    recipe = ShortRun(langevin=Langevin(10, drift=0.5, noise=0.01), data_noise=0.3, noise_per_step=times)
    dims, n = 400, 500
    grad_norm = torch.full((n,), 20.0)  # a step of .5 * 20 / sqrt(400) = .5 per coordinate
    states = ChainStates(torch.zeros(n, dims), Stats(torch.zeros(n), grad_norm, torch.ones(n)))
    rng = torch.Generator().manual_seed(0)
    _, metrics = recipe.losses({"energy": Square()}, {"data": {"x": torch.zeros(n, dims)}}, {"model": states}, rng, 0)
    expected = max(0.3, times * 0.5)
    assert (2 * metrics["energy/data"] / dims).sqrt().item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("start", "kind"), [(0.1, "short-run"), (1.0, "anatomy")])
def test_where_steps_exceed_the_noise_of_the_data_learning_runs_away_unless_the_noise_keeps_up(start, kind):
    """The slope a learns by E|x_chains| - E|x_data|, and the steeper the wedge, the further out its chains: a feedback.

    Without noise, chains end uniformly within a / 2 of the minimum, E|x| = a / 4; the data have .8 sigma.
    """
    settings = {"langevin": Langevin(20, drift=1.0, noise=0.001), "lr": 0.1, "batch_size": 100, "start": start}
    slopes = {}
    for times in (0.0, 2.0):
        recipe = WEDGES[kind](**settings, data_noise=0.01, noise_per_step=times)
        model = fit(recipe, torch.zeros(100, 1), 30, patience=0, progress=False)
        slopes[times] = model.snapshot.nets["energy"].log_slope.exp().item()
    assert slopes[0.0] > 10 * start
    assert slopes[2.0] < start
