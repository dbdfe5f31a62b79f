"""Short-run MCMC as a model of images and points (1904.09770).

The model is K Langevin steps from noise under a learned energy; K, the start and the noise belong to it.

Claims, as measured on one CPU thread with torch 2.15; Fréchet distances over features of a classifier of the same data:
digits: found by jobs.search, K = 6: 12.1, 15.4, 12.3 with seeds 0, 1, 2 (noise 539, half the data against the other
half 1.18), 768,000 gradient evaluations. digits-40: written by hand, K = 40: 8.97, 12.2, 15.3, twice as many. On a busy
machine 117 and 129 CPU seconds, on an idle one the latter 71 to 80.
mnist: 30.6 with seed 0 (noise 837, floor 1.36), 42 CPU minutes.
eight-gaussians: found by jobs.search, K = 10: KL(truth, samples) .075, .069, .079 (as many exact samples: .060),
KL(truth, exp(-U/T)) .57, .31, .41, seeds 0, 1, 2, 2,500,000 gradient evaluations. eight-gaussians-100: written by hand,
K = 100: .22, .15, .17 and 27, 27, 19, eight times as many, 75 CPU seconds.
fashion-mnist: the settings of mnist, not yet measured.
cifar10, celeba: the paper's settings for a GPU, not yet measured.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.launch import experiment
from pipeline.recipes.short_run import ShortRun
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, LoggingSettings, ResourceSettings, override
from pipeline.samplers.langevin import Langevin

DIGITS_40 = Job(
    name="short_run-digits-40",
    updates=600,
    recipe=ShortRun(langevin=Langevin(steps=40, drift=1.0, noise=0.01), width=32, data_noise=0.05, lr=5e-4, anneal=300),
    data=DataSettings("digits"),
)
DIGITS = replace(  # found by jobs.search short-run --preset digits-40, stopped at half its gradient evaluations
    DIGITS_40,
    name="short_run-digits",
    updates=2000,
    recipe=ShortRun(
        langevin=Langevin(steps=6, drift=2.87, noise=0.042), width=32, data_noise=0.19, lr=2.1e-4, anneal=583
    ),
)
GAUSSIANS_100 = Job(
    name="short_run-eight-gaussians-100",
    updates=2000,
    recipe=ShortRun(
        langevin=Langevin(steps=100, drift=1.0, noise=0.01),
        batch_size=100,
        start_from="gaussian",
        data_noise=0.0,
        lr=1e-3,
        leaky_slope=0.05,
    ),
    data=DataSettings("eight-gaussians"),
    evaluation=EvaluationSettings(eval_samples=5000),
    resources=ResourceSettings(actors=0, learners=0),
)
MNIST = override(DIGITS_40, name="short_run-mnist", source="mnist", updates=4300)
MNIST = replace(MNIST, recipe=replace(DIGITS_40.recipe, width=16, anneal=1500))
PAPER = ShortRun(langevin=Langevin(steps=100, drift=1.0, noise=0.01), batch_size=64, data_noise=0.03, lr=1e-4)
CIFAR10 = Job(
    name="short_run-cifar10",
    updates=200_000,
    recipe=replace(PAPER, width=128),
    data=DataSettings("cifar10", max_items=40_000),
    resources=ResourceSettings(actors=1, gpus_per_learner=0.5, gpus_per_actor=0.5),
    logging=LoggingSettings(checkpoint_every=1000, log_every=100),
)

PRESETS: dict[str, Job[ShortRun]] = {
    "digits": DIGITS,
    "digits-40": DIGITS_40,
    "mnist": MNIST,
    "fashion-mnist": override(MNIST, name="short_run-fashion-mnist", source="fashion-mnist"),
    "cifar10": CIFAR10,
    "celeba": override(CIFAR10, name="short_run-celeba", source="celeba", recipe=replace(PAPER, width=64)),
    "eight-gaussians": replace(  # found by jobs.search short-run --preset eight-gaussians-100 --budget 2500000
        GAUSSIANS_100,
        name="short_run-eight-gaussians",
        updates=2500,
        recipe=replace(
            GAUSSIANS_100.recipe,
            langevin=Langevin(steps=10, drift=2.0, noise=0.09),
            lr=1.6e-3,
            anneal=322,
        ),
    ),
    "eight-gaussians-100": GAUSSIANS_100,
}


def space(trial: Any, recipe: ShortRun, budget: int) -> ShortRun:
    """What `jobs.search short-run` tries: K, drift, noise, data noise (not below the chains'), rate and its fall.

    The fall begins between an eighth of the updates that the budget allows and its end.
    """
    noise = trial.suggest_float("noise", 2e-3, 0.1, log=True)
    langevin = Langevin(
        steps=trial.suggest_int("steps", 5, 100, log=True),
        drift=trial.suggest_float("drift", 0.1, 5.0, log=True),
        noise=noise,
    )
    updates = max(8, budget // (recipe.batch_size * langevin.steps))
    return replace(
        recipe,
        langevin=langevin,
        data_noise=trial.suggest_float("data_noise", noise, 0.3, log=True) if recipe.data_noise else 0.0,
        lr=trial.suggest_float("learning_rate", 5e-5, 5e-3, log=True),
        anneal=round(updates * trial.suggest_float("anneal_from", 1 / 8, 1.0, log=True)),
    )


if __name__ == "__main__":
    experiment("short_run", PRESETS, __doc__)
