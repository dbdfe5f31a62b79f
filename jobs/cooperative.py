"""Cooperative learning: a generator proposes, chains of an energy revise, and each learns from the other (1609.09408).

Samples are revised proposals. `frechet_start` is the distance of the proposals, that is of the generator alone;
`jobs.sample --steps 0` draws them.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.experiment import experiment
from jobs.short_run import suggest_langevin
from pipeline.recipes.cooperative import Cooperative
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, LoggingSettings, ResourceSettings, override
from pipeline.samplers.langevin import Langevin

DIGITS = Job(
    recipe=Cooperative(
        langevin=Langevin(steps=6, drift=2.87, noise=0.042),
        width=32,
        generator_width=32,
        batch_size=64,
        data_noise=0.19,
        energy_lr=5e-4,
        generator_lr=1e-3,
        anneal=250,
    ),
    data=DataSettings("digits"),
    updates=500,
)
GAUSSIANS = Job(
    recipe=Cooperative(
        langevin=Langevin(steps=10, drift=2.0, noise=0.09),
        latent_dim=4,
        data_noise=0.0,
        energy_lr=1.6e-3,
        generator_lr=1e-3,
        anneal=500,
    ),
    data=DataSettings("eight-gaussians"),
    updates=2500,
    evaluation=EvaluationSettings(eval_samples=5000),
    resources=ResourceSettings(actors=0, learners=0),
)
MNIST = override(
    DIGITS,
    source="mnist",
    updates=1000,
    recipe=replace(DIGITS.recipe, batch_size=16, noise_per_step=2.0, anneal=583),
)
CIFAR10 = Job(
    recipe=Cooperative(
        langevin=Langevin(steps=20, drift=1.0, noise=0.01), latent_dim=100, width=128, generator_width=64
    ),
    data=DataSettings("cifar10", max_items=40_000),
    updates=200_000,
    lanes=1,
    resources=ResourceSettings(learners=0, actors=0),  # one process on one GPU; docs/gpu.md has commands for more
    logging=LoggingSettings(checkpoint_every=1000, log_every=100),
)

PRESETS: dict[str, Job[Cooperative]] = {
    "digits": DIGITS,
    "mnist": MNIST,
    "fashion-mnist": override(MNIST, source="fashion-mnist"),
    "cifar10": CIFAR10,
    "eight-gaussians": GAUSSIANS,
}
COSTS = {"digits": 0.8, "mnist": 5.6}
CLAIMS = """
One CPU thread, torch 2.14; more in docs/cooperative.md.

digits --test-share .2, seeds 4, 5, 6: Fréchet 10.9, 13.2, 16.8, the generator alone 20.5, 21.1, 22.7 (floor 2.24);
short_run with as many gradient evaluations: 19.4, 21.6, 22.0. After ten times the steps 1,400 to 2,100: U is no density
of the data.

mnist: 10,000 images, seeds 4, 5, 6: Fréchet 51.8, 66.5, 71.4, the generator alone 80, 101, 109 (floor 4.8); short_run
mnist, which takes three times as long: 57.3, 75.1, 69.8.

eight-gaussians: 400 updates, seed 0, KL(truth, samples) .17, the generator alone .55. The preset, fashion-mnist and
cifar10 are not measured.
"""
OBJECTIVE = ("kl", "frechet")


def space(trial: Any, recipe: Cooperative, budget: int) -> Cooperative:
    """What `jobs.search` tries: K, drift, noise, data noise (at least the chains'), both learning rates, annealing.

    Annealing starts between an eighth of the updates that the budget allows and the last of them.
    """
    langevin = suggest_langevin(trial, 2, 40)
    updates = max(8, budget // (recipe.batch_size * langevin.steps))
    return replace(
        recipe,
        langevin=langevin,
        data_noise=trial.suggest_float("data_noise", langevin.noise, 0.3, log=True) if recipe.data_noise else 0.0,
        energy_lr=trial.suggest_float("energy_lr", 5e-5, 5e-3, log=True),
        generator_lr=trial.suggest_float("generator_lr", 1e-4, 1e-2, log=True),
        anneal=round(updates * trial.suggest_float("anneal_from", 1 / 8, 1.0, log=True)),
    )


if __name__ == "__main__":
    experiment("cooperative")
