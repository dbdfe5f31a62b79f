"""What long chains say of convergence: the verdict's laws, and looks at energies that are known exactly."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from running import CPU, local_pool, run
from small_recipes import JOINT, SMALL
from torch import nn

from pipeline.batch import Spec
from pipeline.chains.local_pool import LocalPool
from pipeline.errors import InputError, LeaseLost
from pipeline.evaluation.comparison import default_comparison
from pipeline.evaluation.convergence import observer
from pipeline.evaluation.convergence.evidence import CHAINS_PER_START, REACH, Evidence, StartTrajectory, gather_evidence
from pipeline.evaluation.convergence.observer import Observer, read_rows, truncate_rows
from pipeline.evaluation.convergence.verdict import ENERGY_SHIFT, FAR, RHAT, decide
from pipeline.recipes.anatomy import Anatomy
from pipeline.recipes.short_run import ShortRun
from pipeline.rng import generator
from pipeline.runs import lease
from pipeline.runs.job import DataSettings, Job, ResourceSettings, load_dataset, override
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.samplers.hmc import HMC
from pipeline.samplers.langevin import Langevin


def trail(short=0.2, end=0.25, start=0.2, energy_shift=0.1):
    distance = {0: start, 1: short, 10: short, REACH: end}
    return StartTrajectory(
        {1: -5.0, REACH: -5.0}, dict.fromkeys(distance, 1.0), distance, energy_shift, 1.02, 900.0, 0.2
    )


def evidence(**changes):
    """Of a run whose chains converge, but for the changes."""
    healthy = Evidence(
        update=100,
        attempt=0,
        steps=50,
        reach=REACH,
        chains=100,
        temperature=1.0,
        own_start="bank",
        metric="kl",
        floor=0.15,
        trajectories={"noise": trail(start=1.5), "data": trail(), "bank": trail()},
        rhat=1.02,
        rhat_all=1.02,
        finite=True,
        outside={},
        one_sided=0.1,
        growth=1.0,
    )
    return healthy._replace(**changes)


def trajectories(**changed):
    return {**evidence().trajectories, **changed}


def test_chains_that_stay_and_agree_are_convergent():
    found = decide(evidence())
    assert found.name == "convergent"
    assert "R-hat 1.020" in found.why
    assert "from data at kl 0.25" in found.why


@pytest.mark.parametrize(
    "changes",
    [
        {"rhat": RHAT + 0.01},
        {"rhat": float("nan")},
        {"trajectories": trajectories(data=trail(end=FAR * 0.2 + 0.01))},
        {"trajectories": trajectories(bank=trail(end=float("nan")))},
        {"trajectories": trajectories(data=trail(energy_shift=-ENERGY_SHIFT - 0.01))},
    ],
)
def test_one_sign_that_long_chains_leave_or_disagree_is_enough(changes):
    found = decide(evidence(**changes))
    assert found.name == "short-run only"
    assert "kl 0.2 of chains of K = 50 steps from bank" in found.why


def test_what_chains_from_noise_do_is_no_matter_where_the_run_has_a_bank():
    lost = trail(short=9.0, end=9.0, start=1.5, energy_shift=50.0)
    assert decide(evidence(trajectories=trajectories(noise=lost))).name == "convergent"
    without = {"noise": lost, "data": trail()}
    assert decide(evidence(trajectories=without, own_start="noise")).name == "undecided"


def test_a_run_whose_short_chains_are_far_from_the_data_is_undecided():
    far = {start: trail(short=1.0, end=1.0, start=1.5) for start in ("noise", "data", "bank")}
    assert decide(evidence(trajectories=far)).name == "undecided"
    assert decide(evidence(metric="", one_sided=1.0)).name == "undecided"
    assert decide(evidence(metric="")).name == "convergent"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"finite": False, "reach": 3}, "long chains are not finite after 150 steps"),
        ({"outside": {"chains/grad_norm": 4}}, "chains/grad_norm has been far outside its history for 4 updates"),
        ({"one_sided": 0.97, "growth": 4.0}, "d is on one side of 0"),
    ],
)
def test_divergence_goes_before_all_else(changes, why):
    found = decide(evidence(**changes))
    assert found.name == "diverging"
    assert why in found.why


@pytest.mark.parametrize("changes", [{"one_sided": 0.97}, {"growth": 4.0}])
def test_a_bias_alone_or_growth_alone_is_no_divergence(changes):
    assert decide(evidence(**changes)).name == "convergent"


class Exact(nn.Module):
    """The energy of the data's own density, at the temperature of the chains; or a weak pull to the origin."""

    def __init__(self, energy, factor):
        super().__init__()
        self.energy, self.factor = energy, nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * self.energy(x)


def model_of(job, energy, factor):
    """A model of eight Gaussians with that energy, and a bank of exact samples."""
    data = load_dataset(job)
    nets = {"energy": Exact(energy or data.density.energy, factor).requires_grad_(False)}
    bank = data.density.sample(300, generator(7)).float()
    return Snapshot(job, data, nets, 10, Storage.at(job.out), bank)


@pytest.fixture
def plane(small):
    recipe = Anatomy(langevin=Langevin(10, 1.0, 0.06), start_scale=1.5, batch_size=16, bank=300, width=4)
    return override(small, source="eight-gaussians", recipe=recipe)


def looked(model, **settings):
    pool = LocalPool(model.job.recipe, {"energy": Exact(model.nets["energy"].energy, 0.0)})
    return gather_evidence(model, pool, default_comparison(model.data, CPU), 60, **settings)


def test_chains_under_the_datas_own_energy_are_convergent_and_a_look_is_a_function(plane):
    model = model_of(plane, None, plane.recipe.langevin.temperature)
    found, shown = looked(model)
    assert decide(found).name == "convergent", decide(found).why
    assert found.reach == REACH
    assert set(shown) == {"noise", "data", "bank"}
    assert found == looked(model)[0]


def test_chains_that_slowly_fall_to_one_place_are_short_run_only(plane):
    job = replace(plane, recipe=replace(plane.recipe, langevin=Langevin(10, 1.0, 0.01)))
    found, _ = looked(model_of(job, lambda x: x.square().sum(1) / 2, 0.005))
    assert decide(found).name == "short-run only", decide(found).why
    assert found.trajectories["data"].energy_shift < -ENERGY_SHIFT


def test_chains_that_blow_up_are_diverging_and_their_numbers_are_told(plane):
    found, _ = looked(model_of(plane, lambda x: -(x.square().sum(1) ** 2), 1.0))
    assert decide(found).name == "diverging"
    assert not found.finite
    assert found.reach < REACH
    assert not np.isfinite(found.trajectories["data"].energy[found.reach])


def test_a_look_cut_short_says_how_far_it_came_or_nothing(plane):
    model = model_of(plane, None, plane.recipe.langevin.temperature)
    left = iter([False] * 20 + [True])
    assert looked(model, stop=lambda: next(left))[0].reach == 21
    assert looked(model, stop=lambda: True) is None


class Metropolis(ShortRun):
    """Chains that are no Langevin dynamics."""

    def sampler(self, chain, nets, update):
        return HMC(1, 1, 0.1)


def test_what_has_no_long_chains_is_refused():
    spec = Spec("image", (1, 8, 8), 10)
    job = Job(name="x", recipe=SMALL, updates=1, data=DataSettings("digits"), resources=ResourceSettings(observers=1))
    observer.check_observable(job, spec)
    with pytest.raises(InputError, match="observers=1: the model samples without a chain"):
        observer.check_observable(replace(job, recipe=JOINT), spec)
    observer.check_observable(replace(job, recipe=Metropolis()), spec)


def observer_of(job):
    command = json.loads((Path(job.out) / "lease.json").read_text())["command"]
    return Observer(job, 0, CPU, local_pool(job), command)


@pytest.fixture
def few(monkeypatch):
    """Few chains, where what they say does not matter."""
    monkeypatch.setitem(CHAINS_PER_START, "vector", 20)


def test_an_observer_writes_a_line_and_pictures_a_checkpoint_and_is_cut_off_where_a_run_goes_on(plane, few):
    run(plane)
    watching = observer_of(plane)
    assert watching.has_news()
    assert watching.observe()["update"] == 6
    assert not watching.has_news()
    out = Path(plane.out)
    assert {p.name for p in (out / "observe").glob("*.png")} == {"curves-00000006.png", "sheet-00000006.png"}
    (row,) = read_rows(Storage.at(plane.out))
    assert row["verdict"] in ("undecided", "short-run only", "convergent")
    watching.record_divergence("diverged: for the test")
    assert read_rows(Storage.at(plane.out))[-1]["verdict"] == "diverging"
    watching.close()
    assert observer_of(plane).observe() is None  # it was looked at
    truncate_rows(Storage.at(plane.out), 6)
    assert len(read_rows(Storage.at(plane.out))) == 2
    truncate_rows(Storage.at(plane.out), 5)
    assert read_rows(Storage.at(plane.out)) == []


def test_an_observer_of_a_run_that_was_taken_over_writes_no_more(plane, few):
    run(plane)
    watching = observer_of(plane)
    lease.acquire(Storage.at(plane.out))
    with pytest.raises(LeaseLost):
        watching.observe()
    assert not (Path(plane.out) / "observe.jsonl").exists()
