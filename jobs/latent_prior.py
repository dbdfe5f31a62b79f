"""Latent-space energy-based prior: a generator, and an energy that says which of its inputs are likely (2006.08205).

Samples are decoded from chains of K0 steps under the prior; `frechet_start` is of what the same generator
makes of N(0, I).
"""

from dataclasses import replace

from jobs.launch import experiment
from pipeline.job import Job
from pipeline.recipes.latent_prior import LatentPrior

DIGITS = Job(
    name="latent_prior-digits",
    data="digits",
    updates=3000,
    recipe=LatentPrior(latent=16, prior_steps=40, energy_rate=2e-4, generator_rate=1e-3, decoder="mlp", width=256),
)
PAPER = LatentPrior(decay=0.998 ** (1 / 732))
SVHN = Job(
    name="latent_prior-svhn",
    data="svhn",
    updates=201 * 732,
    recipe=PAPER,
    actors=1,
    gpus_per_learner=0.5,
    gpus_per_actor=0.5,
    checkpoint_every=1000,
    log_every=100,
)

PRESETS: dict[str, Job[LatentPrior]] = {
    "digits": DIGITS,
    "mnist": replace(DIGITS, name="latent_prior-mnist", data="mnist", recipe=replace(DIGITS.recipe, width=512)),
    "eight-gaussians": replace(
        DIGITS,
        name="latent_prior-eight-gaussians",
        data="eight-gaussians",
        samples=5000,
        recipe=replace(DIGITS.recipe, latent=2, sigma=0.15, posterior_step=0.05, width=200),
    ),
    "svhn": SVHN,
}

if __name__ == "__main__":
    experiment("latent_prior", PRESETS, __doc__)
