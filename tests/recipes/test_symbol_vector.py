"""Symbol-vector coupling: identities of its energies, and what labels do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, local_pool
from torch.nn.functional import cross_entropy

from pipeline.batch import Spec
from pipeline.chains.lanes import Lane
from pipeline.chains.task import advance
from pipeline.data.dataset import Dataset, load_data
from pipeline.errors import InputError
from pipeline.nets.symbols import label_metrics, symbol_usage
from pipeline.recipe import ChainStates, init_networks
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.recipes.symbol_vector import SymbolVector
from pipeline.rng import generator
from pipeline.runs.job import DataSettings, Job, load_dataset, override
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.kernel import Stats
from pipeline.sampling.draw import class_tasks, symbol_of
from pipeline.sampling.posterior import item_metrics
from pipeline.training.worker import Worker

SMALL = SymbolVector(latent_dim=5, prior_steps=4, batch_size=8, labelled_batch_size=4, architecture="mlp", width=16)
SPEC = Spec("image", (1, 8, 8), 10)


@pytest.fixture
def rank(small):
    def make(recipe, **settings):
        job = override(small, recipe=recipe, **settings)
        return Worker(job, load_dataset(job), CPU, local_pool(job))

    return make


def vectors(n=64):
    return torch.randn(n, 5, generator=generator(0))


def spread_out(nets):
    """The networks with scores large enough for every symbol to differ from the others."""
    with torch.no_grad():
        nets["energy"][-1].weight.mul_(20)
    return nets


def test_with_one_symbol_and_no_labels_chains_and_energy_loss_are_those_of_a_latent_prior(rank):
    one = rank(replace(SMALL, symbols=1, labelled_batch_size=0))
    prior = rank(LatentPrior(latent_dim=5, prior_steps=4, batch_size=8, width=16, architecture="mlp"))
    energy, scores = prior.learner.nets["energy"], one.learner.nets["energy"]
    energy.load_state_dict(scores.state_dict())
    with torch.no_grad():
        for p in (energy[-1].weight, energy[-1].bias):
            p.neg_()
    for ours, theirs in zip(one.tasks(0, 0), [t for t in prior.tasks(0, 0) if t.chain == "prior"], strict=True):
        assert np.array_equal(
            advance(one.job.recipe, one.learner.nets, ours).x, advance(prior.job.recipe, prior.learner.nets, theirs).x
        )
    metrics, _ = one.step(0)
    assert metrics["loss/energy"] == metrics["energy/gap"] != 0
    assert metrics["entropy"] == metrics["information"] == 0


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
def test_joint_densities_of_all_symbols_sum_to_the_marginal(tilt):
    recipe = replace(SMALL, tilt=tilt)
    nets, z = spread_out(init_networks(recipe, SPEC, 0, CPU)), vectors()
    joint = [recipe.target("class", nets, {"label": torch.full((len(z),), k)})(z) for k in range(10)]
    assert torch.allclose((-torch.stack(joint)).logsumexp(0), -recipe.target("prior", nets, None)(z), atol=1e-5)


def test_the_posterior_of_the_symbol_is_the_softmax_of_the_scores():
    nets, z = spread_out(init_networks(SMALL, SPEC, 0, CPU)), vectors()
    joint = torch.stack([SMALL.target("class", nets, {"label": torch.full((len(z),), k)})(z) for k in range(10)], 1)
    assert torch.allclose((-joint).softmax(1), nets["energy"](z).softmax(1), atol=1e-6)


def test_an_untilted_prior_is_gaussian_and_no_chain_runs():
    recipe = replace(SMALL, tilt=0.0)
    nets, z = spread_out(init_networks(recipe, SPEC, 0, CPU)), vectors()
    assert torch.equal(recipe.target("prior", nets, None)(z), z.square().sum(1) / 2)
    assert recipe.chains == {}
    assert (recipe.sampler("prior", nets, 0).steps, recipe.sampler("class", nets, 0).steps) == (0, 4)


@pytest.mark.parametrize(
    ("scores", "entropy", "mutual"),
    [
        (100 * torch.eye(4), np.log(4), np.log(4)),  # each vector has its own symbol
        (torch.zeros(4, 4), np.log(4), 0.0),  # vectors and symbols are independent
        (100 * torch.eye(4)[:1].expand(4, 4), 0.0, 0.0),  # all vectors have the same symbol
    ],
)
def test_symbol_usage(scores, entropy, mutual):
    metrics = symbol_usage(scores)
    assert float(metrics["entropy"]) == pytest.approx(entropy, abs=1e-6)
    assert float(metrics["information"]) == pytest.approx(mutual, abs=1e-6)


def test_each_network_has_its_own_gradient(rank):
    """F: the gap of -f and lambda times the cross entropy; generator: the reconstruction alone."""
    one = rank(replace(SMALL, label_weight=3.0))
    batch = one.batch(0, one.lanes[0])
    chains = {"prior": ChainStates(vectors(2), Stats(*torch.zeros(3, 2)))}
    nets, recipe = one.learner.nets, one.job.recipe

    def losses(weight):
        return replace(recipe, label_weight=weight).losses(nets, batch, chains, generator(3), 0)[0]

    labelled = batch["labelled"]
    cross = cross_entropy(nets["energy"](nets["encoder"](labelled["x"])[0]), labelled["label"])
    for name, weight in (("energy", 3.0), ("encoder", 3.0), ("generator", 0.0)):
        own = list(nets[name].parameters())
        with_, without = (torch.autograd.grad(losses(w)[name], own) for w in (3.0, 0.0))
        wanted = torch.autograd.grad(cross, own, retain_graph=True, materialize_grads=True, allow_unused=True)
        for a, b, c in zip(with_, without, wanted, strict=True):
            assert torch.allclose(a - b, weight * c, atol=2e-4)


def test_samples_of_a_class_have_its_density():
    """With scores a_y z, p(z|y) is the Gaussian with mean a_y."""
    recipe, labels = replace(SMALL, prior_steps=150, prior_step_size=0.3), np.repeat([3, 7], 1000)
    scores = torch.nn.Linear(5, 10, bias=False)
    with torch.no_grad():
        scores.weight.copy_(torch.linspace(-1, 1, 50).view(10, 5))
    nets = {"energy": scores.requires_grad_(False)}
    job = Job(recipe=recipe, data=DataSettings("digits"), updates=1)
    tasks = class_tasks(Snapshot(job, load_data("digits"), nets, 0), labels, seed=1)
    z = torch.from_numpy(np.concatenate([advance(recipe, nets, task).x for task in tasks]))
    for label, part in ((3, z[:1000]), (7, z[1000:])):
        assert torch.allclose(part.mean(0), scores.weight[label], atol=4 / 1000**0.5)
        assert torch.allclose(part.var(0), torch.full((5,), 1 / (1 - 0.3**2 / 4)), atol=4 * (2 / 1000) ** 0.5)


def test_unknown_classes_are_refused(rank):
    one = rank(SMALL)
    with pytest.raises(InputError, match="label=10: the classes are 0 to 9"):
        symbol_of(Snapshot(one.job, one.data, one.learner.nets, 0), 10)
    other = rank(LatentPrior(latent_dim=5, batch_size=8))
    with pytest.raises(InputError, match="label=1: LatentPrior cannot sample a given class"):
        symbol_of(Snapshot(other.job, other.data, other.learner.nets, 0), 1)


@pytest.mark.parametrize(
    ("recipe", "spec", "complaint"),
    [
        (SMALL, Spec("vector", (2,), 0), "no labels"),
        (replace(SMALL, symbols=3), SPEC, "symbols=3: must be 10 or more"),
        (replace(SMALL, labelled_batch_size=0), Spec("vector", (2,), 0), "symbols=0: must be 1 or more"),
    ],
)
def test_data_that_do_not_fit_are_refused(recipe, spec, complaint):
    with pytest.raises(InputError, match=complaint):
        init_networks(recipe, spec, 0, CPU)


def test_two_labels_per_class_suffice_to_learn(rank):
    one = rank(
        replace(SMALL, autoencoder_lr=3e-3, energy_lr=1e-3, labelled_batch_size=20),
        labels_per_class=2,
        lanes=1,
        test_share=0.2,
    )
    for update in range(40):
        one.step(update)
    metrics = label_metrics(one.learner.nets, one.data.test.batch(np.arange(one.data.test.size)))
    assert metrics["accuracy"].mean() > 0.4


def test_learning_uses_the_labels_that_there_are_and_metrics_are_of_them(tmp_path):
    """Images whose label is -1 are data like others, but neither stream nor metric has labels of them."""
    digits = load_data("digits")
    images, labels = digits.table.column("x")[:60, 0], digits.table.column("label")[:60]
    known = np.where(np.arange(60) % 3 == 0, labels, -1)
    data = Dataset.from_arrays(images, known, test_share=0.5)
    job = Job(name="few", recipe=SMALL, data=DataSettings(data.source, test_share=0.5), updates=1, lanes=2)
    one = Worker(job, data, CPU, local_pool(job))
    batch = one.batch(0, Lane(0, 2))
    assert (batch["labelled"]["label"] >= 0).all()
    assert "label" not in batch["data"]
    one.step(0)
    n, is_known = data.test.size, known[data.test_rows] >= 0
    snapshot = Snapshot(job, data, one.learner.nets, 1)
    metrics = item_metrics(snapshot, data.test, n, {})
    assert {name: len(values) for name, values in metrics.items()} == {
        "mse": n, "energy": n, "accuracy": is_known.sum(), "cross_entropy": is_known.sum()
    }  # fmt: skip
    of_known = data.test._replace(rows=data.test_rows[is_known])
    again = item_metrics(snapshot, of_known, of_known.size, {})
    torch.testing.assert_close(metrics["cross_entropy"], again["cross_entropy"])


def test_a_class_is_named_as_the_data_name_it():
    def number(data, label, recipe=SMALL):
        return symbol_of(Snapshot(Job(recipe, DataSettings(data.source), 1), data, {}, 0), label)

    data = Dataset.from_arrays(np.zeros((6, 8, 8), np.uint8), ["dog", "cat"] * 3)
    assert [number(data, label) for label in ("cat", "dog")] == [0, 1]
    with pytest.raises(InputError, match="label=0: the classes are cat, dog"):
        number(data, 0)
    assert number(data, 3, replace(SMALL, symbols=4)) == 3
    large = Dataset.from_arrays(np.zeros((6, 8, 8), np.uint8), [20230001, 20230000] * 3)
    assert number(large, 20230001) == 1
