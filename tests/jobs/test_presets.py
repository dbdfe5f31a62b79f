"""The presets that carry a paper's numbers, run for a few updates on stand-ins of their data."""

from dataclasses import replace

import pytest
from running import features_in, run, sentences_in

from jobs import EXPERIMENTS, anatomy, hypernetwork, latent_prior, short_run, symbol_vector
from jobs.cli.experiment import load_experiment, named_presets
from pipeline.batch import Spec
from pipeline.data.named import DENSITIES
from pipeline.nets.classifier import build_classifier
from pipeline.nets.layered import StepSize
from pipeline.runs.job import check_job, override
from pipeline.runs.job_json import from_json, to_json

PRESETS = {job.name: job for name in EXPERIMENTS for job in named_presets(load_experiment(name)).values()}
TOYS = ("digits", *DENSITIES)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_sound_and_survives_its_json(name):
    check_job(PRESETS[name])
    assert from_json(to_json(PRESETS[name])) == PRESETS[name]


@pytest.mark.parametrize(("name", "width"), [("cifar10", 128), ("celeba", 64)])
def test_the_numbers_of_short_run(name, width):
    recipe = short_run.PRESETS[name].recipe
    langevin = recipe.langevin
    assert (langevin.steps, langevin.drift, langevin.noise, recipe.data_noise) == (100, 1.0, 0.01, 0.03)
    assert (recipe.width, recipe.lr, recipe.leaky_slope, recipe.start_from) == (width, 1e-4, 0.2, "uniform")
    assert (short_run.PRESETS[name].updates, short_run.PRESETS[name].data.max_items) == (200_000, 40_000)


def test_the_numbers_of_anatomy():
    assert set(anatomy.PRESETS) == {
        f"{data}-{outcome}"
        for data in ("eight-gaussians", "rings", "digits", "mnist", "cifar10", "flowers")
        for outcome in ("convergent", "nonconvergent")
    }
    for data, bank in (("cifar10", 50_000), ("flowers", 8189)):
        one, other = (anatomy.PRESETS[f"{data}-{outcome}"] for outcome in ("convergent", "nonconvergent"))
        assert (one.updates, other.updates) == (200_000, 100_000)
        assert (one.recipe.langevin.steps, one.recipe.langevin.noise, one.recipe.data_noise) == (500, 7.5e-3, 1.5e-2)
        assert (one.recipe.optimizer, one.recipe.lr, one.recipe.final_lr) == ("sgd", 0.1, 5e-4)
        assert (one.recipe.lr_decay, one.recipe.bank, one.recipe.architecture) == (0.99995, bank, "nonlocal")
        assert (other.recipe.langevin.steps, other.recipe.langevin.noise, other.recipe.data_noise) == (150, 1e-2, 3e-2)
        assert (other.recipe.optimizer, other.recipe.lr, other.recipe.bank) == ("adam", 1e-4, 0)
        for recipe in (one.recipe, other.recipe):
            assert (recipe.batch_size, recipe.width, recipe.leaky_slope, recipe.restart_prob) == (100, 32, 0.05, 0.0)
            assert (recipe.langevin.drift, recipe.start_from) == (1.0, "uniform")


def test_the_numbers_of_latent_prior():
    svhn, cifar10, celeba = (latent_prior.PRESETS[name] for name in ("svhn", "cifar10", "celeba"))
    for job, batches, epochs in ((svhn, 732, 201), (cifar10, 500, 201), (celeba, 300, 400)):
        recipe = job.recipe
        assert job.updates == batches * epochs
        assert recipe.lr_decay**batches == pytest.approx(0.998)
        assert (recipe.batch_size, recipe.sigma, recipe.energy_width, recipe.architecture) == (100, 0.3, 200, "conv")
        assert (recipe.prior_steps, recipe.prior_step_size, recipe.posterior_step_size) == (60, 0.4, 0.1)
        assert (recipe.energy_lr, recipe.generator_lr) == (2e-5, 1e-4)
    assert [job.recipe.latent_dim for job in (svhn, cifar10, celeba)] == [100, 128, 100]
    assert [job.recipe.posterior_steps for job in (svhn, cifar10, celeba)] == [20, 20, 40]
    channels = {"svhn": [512, 256, 128, 3], "cifar10": [1024, 512, 256, 3], "celeba": [1024, 512, 256, 128, 3]}
    for name, expected in channels.items():
        spec = Spec("image", (3, 64, 64) if name == "celeba" else (3, 32, 32), 0)
        net = latent_prior.PRESETS[name].recipe.nets(spec)["generator"]
        assert [layer.out_channels for layer in net if hasattr(layer, "out_channels")] == expected
    assert latent_prior.PRESETS["snli"].recipe.latent_dim == 32


def test_the_numbers_of_symbol_vector():
    recipe = symbol_vector.PRESETS["ag-news-paper"].recipe
    assert (recipe.latent_dim, recipe.width, recipe.prior_steps, recipe.prior_step_size) == (100, 2000, 100, 0.4)
    assert (recipe.batch_size, recipe.labelled_batch_size, recipe.label_weight, recipe.dropout) == (
        200,
        200,
        200.0,
        0.5,
    )
    assert (recipe.energy_lr, recipe.autoencoder_lr, recipe.information, recipe.tilt) == (1e-5, 1e-4, 0.0, 1.0)
    nets = recipe.nets(Spec("counts", (30_000,), 4, (1 / 30_000,) * 30_000))
    assert [layer.out_features for layer in list(nets["energy"])[::2]] == [200, 200, 4]
    decays = {name: optimizer.param_groups[0]["weight_decay"] for name, optimizer in recipe.optimizers(nets).items()}
    assert decays == {"energy": 1e-3, "encoder": 2e-3, "generator": 0.0}


def test_the_numbers_of_hypernetwork():
    mnist, cifar10 = (hypernetwork.PRESETS[name].recipe for name in ("mnist-conv-paper", "cifar10"))
    assert build_classifier(mnist.classifier, Spec("image", (1, 28, 28), 10)).size == 20_018
    assert (mnist.members, mnist.hypernetwork.noise_dim, mnist.hypernetwork.code_dim) == (32, 300, 15)
    assert build_classifier(cifar10.classifier, Spec("image", (3, 32, 32), 10)).size == 463_018
    assert (cifar10.members, cifar10.hypernetwork.noise_dim, cifar10.accuracy_weight) == (50, 500, 1e8)


@pytest.mark.parametrize("name", [name for name, job in PRESETS.items() if job.data.source not in TOYS])
def test_a_few_updates_on_a_stand_in(name, tmp_path, monkeypatch):
    from test_sources import stand_in

    job = PRESETS[name]
    monkeypatch.setenv("EBM_CACHE", str(tmp_path))
    if job.data.source.endswith(".parquet"):
        job = override(job, source=(features_in if job.data.source.startswith("table") else sentences_in)(tmp_path))
    else:
        stand_in(job.data.source, tmp_path / "torchvision", monkeypatch)
    recipe = replace(job.recipe, batch_size=8)
    if hasattr(recipe, "width"):
        recipe = replace(recipe, width=4)
    if hasattr(recipe, "members"):
        recipe = replace(recipe, members=4)
    if hasattr(recipe, "flow"):
        recipe = replace(recipe, flow=replace(recipe.flow, couplings=1, hidden=4))
    job = override(job, labels_per_class=min(job.data.labels_per_class, 2))
    if hasattr(recipe, "langevin"):
        recipe = replace(recipe, langevin=replace(recipe.langevin, steps=3))
    few = override(job, recipe=recipe, updates=2, eval_samples=0, learners=0, actors=0, out=str(tmp_path / "run"))
    per_update = [
        8 * recipe.sampler(chain, {"step_size": StepSize(0.1)}, 0).gradient_evaluations for chain in recipe.chains
    ]
    assert run(few)["gradient_evaluations"] == 2 * sum(per_update)
