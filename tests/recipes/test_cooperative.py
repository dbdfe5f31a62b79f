"""Cooperative learning (1609.09408): what proposals carry, what each network learns, and that no process changes it."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from running import CPU, everything, local_pool, run
from small_recipes import COOP, SMALL
from torch import nn

from pipeline.batch import Spec
from pipeline.chains.task import advance
from pipeline.errors import InputError
from pipeline.nets.generator import GaussianDecoder
from pipeline.recipe import ChainSettings, ChainStates, init_networks
from pipeline.recipes.cooperative import Cooperative
from pipeline.rng import generator
from pipeline.runs import checkpoint
from pipeline.runs.job import load_dataset, override
from pipeline.samplers.langevin import Langevin
from pipeline.training.worker import Worker

POINTS = Spec("vector", (2,), 0)
MODE = torch.tensor([3.0, -2.0])


class Linear(nn.Linear, GaussianDecoder):
    """A linear generator."""


class Well(nn.Module):
    """|x - MODE|^2 / 2."""

    def forward(self, x):
        return (x - MODE).square().sum(1) / 2


@pytest.fixture
def job(small):
    return override(small, recipe=COOP)


def worker_of(job):
    return Worker(job, load_dataset(job), CPU, local_pool(job))


def test_chains_start_at_proposals_and_bring_back_the_latent_vectors_that_made_them(job):
    worker = worker_of(job)
    for task in worker.tasks(0, 0):
        result = advance(job.recipe, worker.learner.nets, task)
        with torch.no_grad():
            proposals = worker.learner.nets["generator"](torch.tensor(result.carried["z"]))
        np.testing.assert_allclose(task.x, proposals, rtol=0, atol=1e-6)
        assert not np.array_equal(result.x, task.x)


def test_what_chains_carry_is_in_the_checkpoint(job):
    job = replace(job, lag=2, updates=2)
    run(job)
    pool = local_pool(job)
    worker = Worker(job, load_dataset(job), CPU, pool)
    assert worker.restore() == 2
    (task,) = [task for task in worker_of(job).tasks(2, 0) if task.lane.index == 3]
    assert pool.ready.keys() == {2, 3}
    assert np.array_equal(pool.ready[2]["model", 3].carried["z"], task.carried["z"])


def test_a_checkpoint_of_results_that_carry_nothing_can_still_be_read(job):
    worker = worker_of(override(job, recipe=SMALL))
    task = worker.tasks(0, 0)[0]
    packed = checkpoint.pack(advance(SMALL, worker.learner.nets, task))
    assert packed.pop("carried") == {}
    rest, tensors = checkpoint.split_tensors(packed)
    result = checkpoint.unpack(task.lane, checkpoint.join_tensors(rest, tensors))
    assert (result.carried, len(result.x)) == ({}, len(task.x))


def test_half_a_run_with_fresh_chains_and_its_resumption_are_the_whole_run(job, tmp_path):
    whole = replace(job, lag=2, max_staleness=0.01, updates=8)
    half = replace(whole, out=str(tmp_path / "half"))
    result = run(whole)
    run(replace(half, updates=3))
    assert run(half)["weights_sha256"] == result["weights_sha256"]
    assert 0 < result["staleness_waits"] < 8
    one, other = everything(whole), everything(half)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@dataclass(frozen=True)
class Banked(Cooperative):
    """A recipe whose chains persist, although they carry what no bank keeps."""

    @property
    def chains(self):
        return {"model": ChainSettings(self.batch_size, bank=80)}


def test_a_bank_of_chains_that_carry_something_is_refused(job):
    recipe = Banked(**{name: getattr(COOP, name) for name in COOP.__dataclass_fields__})
    with pytest.raises(InputError, match="bank=80: its model chains carry z, which no bank keeps"):
        worker_of(override(job, recipe=recipe)).tasks(0, 0)


def test_chains_without_steps_are_refused():
    with pytest.raises(InputError, match="steps=0: the generator learns from what the chains change"):
        Cooperative(langevin=Langevin(0, 1.0, 0.01))


def losses_of(recipe, nets, n=50):
    rng, x = generator(1), torch.randn(n, 2, generator=generator(2))
    start, carried = recipe.initial_states("model", n, rng, nets, POINTS, None)
    revised, stats = recipe.langevin(nets["energy"], start, rng)
    chains = {"model": ChainStates(revised, stats, carried)}
    return recipe.losses(nets, {"data": {"x": x}}, chains, rng, 0), chains, x


def test_the_energy_learns_as_in_contrastive_divergence_from_its_proposals():
    recipe = replace(COOP, data_noise=0.0)
    nets = init_networks(recipe, POINTS, 0, CPU)
    (losses, _), chains, x = losses_of(recipe, nets)
    gap = nets["energy"](x).mean() - nets["energy"](chains["model"].x).mean()
    assert torch.equal(losses["energy"], gap)
    other = replace(SMALL, data_noise=0.0)  # short-run learning has the same loss, from other starts
    rows = other.losses(nets, {"data": {"x": x}}, chains, generator(1), 0)
    assert torch.equal(rows[0]["energy"], gap)


def test_a_generator_whose_proposals_are_not_changed_learns_nothing():
    recipe = replace(COOP, langevin=Langevin(3, drift=0.0, noise=0.0))
    nets = init_networks(recipe, POINTS, 0, CPU)
    (losses, metrics), _, _ = losses_of(recipe, nets)
    slopes = torch.autograd.grad(losses["generator"], list(nets["generator"].parameters()))
    assert metrics["mse"] == 0
    assert all((slope == 0).all() for slope in slopes)


def test_the_generator_comes_to_where_long_chains_would_although_each_revision_is_short():
    recipe = Cooperative(langevin=Langevin(2, drift=0.05, noise=0.05), latent_dim=2, generator_lr=0.02)
    nets = {"energy": Well(), "generator": Linear(2, 2)}
    optimizer, rng = torch.optim.Adam(nets["generator"].parameters(), recipe.generator_lr), generator(0)
    for update in range(600):
        start, carried = recipe.initial_states("model", 100, rng, nets, POINTS, None)
        revised, stats = recipe.langevin(nets["energy"], start.detach(), rng)
        states = ChainStates(revised, stats, carried)
        losses, _ = recipe.losses(nets, {"data": {"x": start.detach()}}, {"model": states}, rng, update)
        optimizer.zero_grad()
        losses["generator"].backward()
        optimizer.step()
    assert torch.allclose(nets["generator"].bias, MODE, atol=0.1)


def test_inferred_latent_vectors_follow_the_posterior_of_a_linear_generator():
    n, sigma, weight = 4000, 0.5, torch.tensor([[1.0, 0.3], [-0.2, 0.8]])
    recipe = Cooperative(latent_dim=2, sigma=sigma, inference_steps=300, inference_step_size=0.1)
    nets = {"generator": Linear(2, 2, bias=False)}
    nets["generator"].weight.data = weight
    x = torch.tensor([1.0, -1.0])
    z = recipe.infer(nets, torch.zeros(n, 2), x.expand(n, 2), generator(0))
    covariance = torch.linalg.inv(weight.T @ weight / sigma**2 + torch.eye(2))
    mean = covariance @ weight.T @ x / sigma**2
    assert torch.allclose(z.mean(0), mean, atol=4 * (covariance.diagonal().max() / n).sqrt().item())
    assert torch.allclose(z.T.cov(), covariance, atol=0.02)


def test_without_inference_steps_every_latent_vector_is_kept():
    nets, z = init_networks(COOP, POINTS, 0, CPU), torch.randn(5, 3)
    assert COOP.infer(nets, z, torch.zeros(5, 2), generator(0)) is z
