"""Latent-space energy-based prior: a generator, and an energy that says which latent vectors are likely (2006.08205).

Samples are decoded from chains of K0 steps under the prior; `frechet_start` is the distance of what the same generator
makes of N(0, I). The preset snli needs --data with a column `text`.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.experiment import experiment
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, LoggingSettings, ResourceSettings, override

DIGITS = Job(
    recipe=LatentPrior(latent_dim=16, prior_steps=40, energy_lr=1e-3, generator_lr=1e-3, architecture="mlp", width=256),
    data=DataSettings("digits"),
    updates=3000,
)
MNIST = override(
    DIGITS,
    source="mnist",
    updates=5000,
    recipe=replace(DIGITS.recipe, batch_size=32, energy_lr=2e-3, lr_decay=0.9995),
)
PLANE = replace(DIGITS.recipe, latent_dim=2, sigma=0.15, posterior_step_size=0.05, energy_lr=2e-4, width=200)
SVHN = Job(
    recipe=LatentPrior(lr_decay=0.998 ** (1 / 732)),
    data=DataSettings("svhn"),
    updates=201 * 732,
    lanes=1,
    resources=ResourceSettings(learners=0, actors=0),  # one process on one GPU; docs/gpu.md has commands for more
    logging=LoggingSettings(checkpoint_every=1000, log_every=100),
)
SNLI = Job(
    recipe=LatentPrior(
        latent_dim=32,
        prior_steps=40,
        posterior_steps=10,
        posterior_step_size=0.45,
        batch_size=50,
        energy_lr=5e-4,
        generator_lr=4e-3,
        lr_decay=0.999,
        width=128,
    ),
    data=DataSettings("snli.parquet", test_share=0.2),
    updates=750,
    evaluation=EvaluationSettings(eval_samples=3000),
    logging=LoggingSettings(checkpoint_every=250),
)

PRESETS: dict[str, Job[LatentPrior]] = {
    "digits": DIGITS,
    "mnist": MNIST,
    "fashion-mnist": override(MNIST, source="fashion-mnist"),
    "eight-gaussians": override(DIGITS, source="eight-gaussians", eval_samples=5000, recipe=PLANE),
    "svhn": SVHN,
    "cifar10": override(
        SVHN,
        source="cifar10",
        updates=201 * 500,
        recipe=LatentPrior(latent_dim=128, width=128, lr_decay=0.998 ** (1 / 500)),
    ),
    "celeba": override(
        SVHN,
        source="celeba",
        max_items=30_000,
        updates=400 * 300,
        recipe=LatentPrior(posterior_steps=40, lr_decay=0.998 ** (1 / 300)),
    ),
    "snli": SNLI,
}
COSTS = {"mnist": 4.3, "snli": 5.2}
CLAIMS = """
snli: 3,399 sentences, a fifth held out. FPPL 28.6, RPPL 35.7, NLL 35.81 with seed 0, and 27.8, 36.9, 35.70 with seed 1;
real sentences have 26.8. The VAE of the same decoder (symbol_vector snli-vae): 31.5, 34.8, 36.21 with seed 0. The
likelihood comes from the latent vectors: without the prior's chains FPPL is 27.8 and 27.0, within noise of the above.

mnist --test-share .1 --lanes 1, 10,000 images, seeds 4, 5, 6: Fréchet 126, 95.9, 135 by K0 = 40 steps (floor 5.44), and
501, 510, 516 by N(0, I); test MSE .047 to .049. fashion-mnist has the same settings and is not measured.

digits, seed 0: Fréchet 24.3, by N(0, I) 35.7.

eight-gaussians is not measured yet. svhn, cifar10, celeba have the paper's settings, for a GPU, and are not measured.
"""
OBJECTIVE = ("kl", "frechet")


def space(trial: Any, recipe: LatentPrior, budget: int) -> LatentPrior:
    """What `jobs.search` tries: sigma, the posterior's step size in units of it, the prior's, both Ks, both rates."""
    sigma = trial.suggest_float("sigma", 0.05, 1.0, log=True)
    return replace(
        recipe,
        sigma=sigma,
        posterior_step_size=sigma * trial.suggest_float("posterior_step_size_over_sigma", 0.03, 1.0, log=True),
        posterior_steps=trial.suggest_int("posterior_steps", 5, 60, log=True),
        prior_step_size=trial.suggest_float("prior_step_size", 0.05, 0.8, log=True),
        prior_steps=trial.suggest_int("prior_steps", 10, 100, log=True),
        energy_lr=trial.suggest_float("energy_lr", 1e-5, 5e-3, log=True),
        generator_lr=trial.suggest_float("generator_lr", 1e-4, 5e-3, log=True),
    )


if __name__ == "__main__":
    experiment("latent_prior")
