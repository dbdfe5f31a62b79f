"""What every recipe keeps to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, local_pool, sentences_in

from pipeline.chains import advance, moved
from pipeline.evaluation.samples import decoded, states, tasks
from pipeline.job import dataset
from pipeline.rank import Rank
from pipeline.recipe import Recipe
from pipeline.recipes.alternating_backprop import AlternatingBackprop
from pipeline.recipes.anatomy import Anatomy
from pipeline.recipes.joint_vae import JointVAE
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.recipes.short_run import ShortRun
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.recipes.symbol_vector import SymbolVector
from pipeline.samplers import Langevin

QUICK = Langevin(3, 1.0, 0.01)
SMALL = ShortRun(langevin=QUICK, batch=8, width=4)
ANATOMY = Anatomy(langevin=QUICK, batch=8, width=4)
LATENT = LatentPrior(latent=3, prior_steps=3, posterior_steps=2, batch=8, energy_width=8, width=4)
JOINT = JointVAE(latent=3, batch=8, width=4)
ABP = AlternatingBackprop(latent=3, steps=2, batch=8, width=4, decoder="conv")
SRI = ShortRunInference(latents=(2, 3), steps=2, tune_every=2, tune_items=2, batch=8, width=4)
SYMBOL = SymbolVector(latent=3, prior_steps=2, batch=8, labelled_batch=4, width=4)
RECIPES = {
    "short_run on images": (SMALL, "digits"),
    "short_run on points": (replace(SMALL, start_from="gaussian", start_scale=2.0), "eight-gaussians"),
    "anatomy from data": (replace(ANATOMY, start_from="data", bank=32), "digits"),
    "anatomy by sgd": (replace(ANATOMY, net="nonlocal", optimizer="sgd", learning_rate=0.1, decay=0.9), "digits"),
    "anatomy on points": (replace(ANATOMY, start_from="gaussian"), "rings"),
    "latent_prior on images": (LATENT, "digits"),
    "latent_prior on points": (LATENT, "eight-gaussians"),
    "latent_prior on text": (LATENT, "text"),
    "symbol_vector on text": (replace(SYMBOL, labelled_batch=0, symbols=2), "text"),
    "joint_vae on images": (JOINT, "digits"),
    "short_run_inference on images": (SRI, "digits"),
    "short_run_inference on points": (replace(SRI, latents=(2,)), "eight-gaussians"),
    "alternating_backprop on images": (ABP, "digits"),
    "symbol_vector on images": (SYMBOL, "digits"),
    "symbol_vector on points without labels": (replace(SYMBOL, labelled_batch=0, symbols=8), "eight-gaussians"),
    "symbol_vector on counts": (SYMBOL, "counts"),
    "symbol_vector as a VAE": (replace(SYMBOL, tilt=0.0, network="mlp"), "digits"),
}


@pytest.fixture(params=RECIPES)
def rank(request, small, tmp_path):
    recipe, data = RECIPES[request.param]
    words = "counts" if data == "counts" else "sentences"
    data = sentences_in(tmp_path) if data in ("text", "counts") else data
    job = replace(small, recipe=recipe, data=data, words=words)
    return lambda: Rank(job, dataset(job), CPU, local_pool(job))


def test_it_is_a_frozen_value_with_the_methods_of_a_recipe(rank):
    recipe = rank().job.recipe
    assert isinstance(recipe, Recipe)
    assert hash(recipe) == hash(replace(recipe))


def test_every_network_moves_and_all_is_finite(rank):
    one = rank()
    before = {k: [p.clone() for p in net.parameters()] for k, net in one.learner.nets.items()}
    metrics = [one.step(update)[0] for update in range(3)]
    assert all(np.isfinite(list(row.values())).all() for row in metrics)
    assert len({frozenset(row) for row in metrics}) == 1
    for name, net in one.learner.nets.items():
        moving = [p for p in net.parameters() if p.requires_grad]
        assert any(not torch.equal(p, q) for p, q in zip(moving, before[name], strict=True))


def test_losses_name_every_player_and_every_player_has_an_optimizer(rank):
    one = rank()
    recipe, players = one.job.recipe, one.job.recipe.players(0, {})
    metrics, _ = one.step(0)
    assert {f"loss/{player}" for player in players} <= set(metrics)
    assert set(players) <= set(one.learner.optimizers) <= set(one.learner.nets)
    for optimizer in one.learner.optimizers.values():
        assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    assert all(chain.context is None or chain.context in recipe.streams for chain in recipe.chains.values())


def test_samples_of_its_model_are_data(rank):
    one = rank()
    recipe, nets, shape = one.job.recipe, one.learner.nets, one.data.spec.shape
    drawn = [tasks(recipe, nets, one.data, 5, 0, seed=7) for _ in range(2)]
    ends = [{(t.chain, t.lane.index): advance(recipe, nets, t) for t in some} for some in drawn]
    x, again = (decoded(recipe, nets, states(answers, recipe.model), 7) for answers in ends)
    assert x.shape == (5, *shape)
    assert torch.equal(x, again)
    assert x.isfinite().all()


def test_scores_are_about_every_item(rank):
    one = rank()
    recipe, lane = one.job.recipe, one.lanes[0]
    answers = {(t.chain, t.lane.index): advance(recipe, one.learner.nets, t) for t in one.tasks(0, 0)}
    batch = one.batch(0, lane)
    chains = {c: moved(answers[c, lane.index], CPU) for c, s in recipe.chains.items() if s.context}
    for score in recipe.scores(one.learner.nets, batch, chains).values():
        assert score.shape == (len(batch["data"]["x"]),)
        assert score.isfinite().all()


def test_starts_are_those_the_recipe_names(rank):
    one = rank()
    recipe = one.job.recipe
    if not hasattr(recipe, "start_from"):
        pytest.skip("it has one start alone")
    x = np.concatenate([task.x for task in one.tasks(0, 0)])
    if recipe.start_from == "data":
        data = torch.cat([one.batch(0, lane)["data"]["x"] for lane in one.lanes])
        assert np.array_equal(x, data.numpy())
    elif recipe.start_from == "uniform":
        assert np.abs(x).max() <= 1
        assert abs(x.std() - 3**-0.5) < 0.05
    else:
        assert abs(x.mean()) < 4 / x.size**0.5
        assert abs(x.std() - recipe.start_scale) < 4 / (2 * x.size) ** 0.5
