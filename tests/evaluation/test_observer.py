"""Convergence by long chains: laws of the verdict, evidence from exactly known energies, and the observer's files."""

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
from pipeline.evaluation.convergence.evidence import CHAINS_PER_START, REACH, Evidence, StartTrajectory, gather_evidence
from pipeline.evaluation.convergence.observer import Observer, check_observable, read_rows, truncate_rows
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


def trajectory(short=0.2, end=0.25, start=0.2, energy_shift=0.1):
    distance = {0: start, 1: short, 10: short, REACH: end}
    rms = dict.fromkeys(distance, 1.0)
    return StartTrajectory({1: -5.0, REACH: -5.0}, rms, distance, energy_shift, 1.02, 900.0, 0.2)


def evidence(**changes):
    """The evidence of a run whose chains converge, with some changes."""
    convergent = Evidence(
        update=100,
        attempt=0,
        steps=50,
        reach=REACH,
        chains=100,
        temperature=1.0,
        own_start="bank",
        metric="kl",
        floor=0.15,
        trajectories={"noise": trajectory(start=1.5), "data": trajectory(), "bank": trajectory()},
        rhat=1.02,
        rhat_all=1.02,
        finite=True,
        outside={},
        one_sided=0.1,
        growth=1.0,
    )
    return convergent._replace(**changes)


def trajectories(**changes):
    return {**evidence().trajectories, **changes}


def test_chains_that_stay_and_agree_are_convergent():
    verdict = decide(evidence())
    assert verdict.name == "convergent"
    assert "R-hat 1.020" in verdict.why
    assert "from data at kl 0.25" in verdict.why


@pytest.mark.parametrize(
    "changes",
    [
        {"rhat": RHAT + 0.01},
        {"rhat": float("nan")},
        {"trajectories": trajectories(data=trajectory(end=FAR * 0.2 + 0.01))},
        {"trajectories": trajectories(bank=trajectory(end=float("nan")))},
        {"trajectories": trajectories(data=trajectory(energy_shift=-ENERGY_SHIFT - 0.01))},
    ],
)
def test_one_sign_that_long_chains_leave_or_disagree_is_enough(changes):
    verdict = decide(evidence(**changes))
    assert verdict.name == "short-run only"
    assert "kl 0.2 of chains of K = 50 steps from bank" in verdict.why


def test_chains_from_noise_do_not_matter_where_the_run_has_a_bank():
    lost = trajectory(short=9.0, end=9.0, start=1.5, energy_shift=50.0)
    assert decide(evidence(trajectories=trajectories(noise=lost))).name == "convergent"
    without_bank = {"noise": lost, "data": trajectory()}
    assert decide(evidence(trajectories=without_bank, own_start="noise")).name == "undecided"


def test_a_run_whose_short_chains_are_far_from_the_data_is_undecided():
    far = {start: trajectory(short=1.0, end=1.0, start=1.5) for start in ("noise", "data", "bank")}
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
def test_divergence_takes_precedence(changes, why):
    verdict = decide(evidence(**changes))
    assert verdict.name == "diverging"
    assert why in verdict.why


@pytest.mark.parametrize("changes", [{"one_sided": 0.97}, {"growth": 4.0}])
def test_a_bias_alone_or_growth_alone_is_no_divergence(changes):
    assert decide(evidence(**changes)).name == "convergent"


class Scaled(nn.Module):
    """An energy times a factor."""

    def __init__(self, energy, factor):
        super().__init__()
        self.energy, self.factor = energy, nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * self.energy(x)


def snapshot_of(job, energy, factor):
    """A model of eight Gaussians with an energy (None: that of the data), and a bank of exact samples."""
    data = load_dataset(job)
    nets = {"energy": Scaled(energy or data.density.energy, factor).requires_grad_(False)}
    bank = data.density.sample(300, generator(7)).float()
    return Snapshot(job, data, nets, 10, bank)


@pytest.fixture
def plane(small):
    recipe = Anatomy(langevin=Langevin(10, 1.0, 0.06), start_scale=1.5, batch_size=16, bank=300, width=4)
    return override(small, source="eight-gaussians", recipe=recipe)


def gather(snapshot, **settings):
    pool = LocalPool(snapshot.recipe, {"energy": Scaled(snapshot.nets["energy"].energy, 0.0)})
    return gather_evidence(snapshot, pool, default_comparison(snapshot.data, CPU), 60, **settings)


@pytest.mark.slow
def test_chains_under_the_datas_own_energy_are_convergent(plane):
    result, data = gather(snapshot_of(plane, None, plane.recipe.langevin.temperature))
    assert decide(result).name == "convergent", decide(result).why
    assert result.reach == REACH
    assert set(data) == {"noise", "data", "bank"}


def test_chains_that_slowly_fall_to_one_place_are_short_run_only(plane):
    job = replace(plane, recipe=replace(plane.recipe, langevin=Langevin(10, 1.0, 0.01)))
    result, _ = gather(snapshot_of(job, lambda x: x.square().sum(1) / 2, 0.005))
    assert decide(result).name == "short-run only", decide(result).why
    assert result.trajectories["data"].energy_shift < -ENERGY_SHIFT


def test_chains_that_blow_up_are_diverging_and_their_numbers_are_reported(plane):
    result, _ = gather(snapshot_of(plane, lambda x: -(x.square().sum(1) ** 2), 1.0))
    assert decide(result).name == "diverging"
    assert not result.finite
    assert result.reach < REACH
    assert not np.isfinite(result.trajectories["data"].energy[result.reach])


def stop_after(count):
    """A function that returns True once it was called `count` times."""
    calls = iter(range(count))
    return lambda: next(calls, None) is None


@pytest.mark.slow
def test_evidence_is_a_function_of_the_snapshot_and_says_how_far_stopped_chains_came(plane):
    snapshot = snapshot_of(plane, None, plane.recipe.langevin.temperature)
    result, _ = gather(snapshot, stop=stop_after(20))
    assert result.reach == 21
    assert result == gather(snapshot, stop=stop_after(20))[0]
    assert gather(snapshot, stop=lambda: True) is None


class Metropolis(ShortRun):
    """Chains that are no Langevin dynamics."""

    def sampler(self, chain, nets, update):
        return HMC(1, 1, 0.1)


def test_a_model_that_samples_without_a_chain_is_refused():
    spec = Spec("image", (1, 8, 8), 10)
    job = Job(name="x", recipe=SMALL, updates=1, data=DataSettings("digits"), resources=ResourceSettings(observers=1))
    check_observable(job, spec)
    with pytest.raises(InputError, match="observers=1: the model samples without a chain"):
        check_observable(replace(job, recipe=JOINT), spec)
    check_observable(replace(job, recipe=Metropolis()), spec)


def observer_of(job):
    command = json.loads((Path(job.out) / "lease.json").read_text())["command"]
    return Observer(job, 0, CPU, local_pool(job), command)


@pytest.fixture
def few(monkeypatch):
    """Few chains, where their numbers do not matter."""
    monkeypatch.setitem(CHAINS_PER_START, "vector", 20)


@pytest.mark.slow
def test_an_observer_writes_a_row_and_figures_per_checkpoint_and_is_truncated_where_a_run_continues(plane, few):
    run(plane)
    observer = observer_of(plane)
    assert observer.has_news()
    assert observer.observe(stop_after(12))["update"] == 6
    assert not observer.has_news()
    out = Path(plane.out)
    assert {p.name for p in (out / "observe").glob("*.png")} == {"curves-00000006.png", "sheet-00000006.png"}
    (row,) = read_rows(Storage.at(plane.out))
    assert row["verdict"] in ("undecided", "short-run only", "convergent")
    observer.record_divergence("diverged: for the test")
    assert read_rows(Storage.at(plane.out))[-1]["verdict"] == "diverging"
    observer.close()
    assert observer_of(plane).observe() is None  # this checkpoint has a row
    truncate_rows(Storage.at(plane.out), 6)
    assert len(read_rows(Storage.at(plane.out))) == 2
    truncate_rows(Storage.at(plane.out), 5)
    assert read_rows(Storage.at(plane.out)) == []


def test_an_observer_of_a_run_that_another_command_took_over_writes_nothing(plane, few):
    run(plane)
    observer = observer_of(plane)
    lease.acquire(Storage.at(plane.out))
    with pytest.raises(LeaseLost):
        observer.observe(stop_after(12))
    assert not (Path(plane.out) / "observe.jsonl").exists()
