"""Short-run MCMC as a model of images and points (1904.09770).

The model is K Langevin steps from noise under a learned energy; K, the initial distribution and the noise belong to it.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.experiment import experiment
from pipeline.recipes.short_run import ShortRun
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, LoggingSettings, ResourceSettings, override
from pipeline.samplers.langevin import Langevin

DIGITS_K40 = Job(
    recipe=ShortRun(langevin=Langevin(steps=40, drift=1.0, noise=0.01), width=32, data_noise=0.05, lr=5e-4, anneal=300),
    data=DataSettings("digits"),
    updates=600,
)
DIGITS = replace(  # found by jobs.search short-run --preset digits-K40, stopped at half its gradient evaluations
    DIGITS_K40,
    recipe=ShortRun(
        langevin=Langevin(steps=6, drift=2.87, noise=0.042), width=32, data_noise=0.19, lr=2.1e-4, anneal=583
    ),
    updates=2000,
)
GAUSSIANS_K100 = Job(
    recipe=ShortRun(
        langevin=Langevin(steps=100, drift=1.0, noise=0.01),
        batch_size=100,
        start_from="gaussian",
        data_noise=0.0,
        lr=1e-3,
        leaky_slope=0.05,
    ),
    data=DataSettings("eight-gaussians"),
    updates=2000,
    evaluation=EvaluationSettings(eval_samples=5000),
    resources=ResourceSettings(actors=0, learners=0),
)
GAUSSIANS = override(  # found by jobs.search short-run --preset eight-gaussians-K100 --budget 2500000
    GAUSSIANS_K100,
    recipe=replace(GAUSSIANS_K100.recipe, langevin=Langevin(steps=10, drift=2.0, noise=0.09), lr=1.6e-3, anneal=322),
    updates=2500,
)
MNIST = override(
    DIGITS_K40,
    source="mnist",
    updates=1000,
    recipe=replace(DIGITS_K40.recipe, batch_size=16, anneal=600, noise_per_step=2.0),
)
PAPER = ShortRun(langevin=Langevin(steps=100, drift=1.0, noise=0.01), batch_size=64, data_noise=0.03, lr=1e-4)
CIFAR10 = Job(
    recipe=replace(PAPER, width=128),
    data=DataSettings("cifar10", max_items=40_000),
    updates=200_000,
    lanes=1,
    resources=ResourceSettings(learners=0, actors=0),  # one process on one GPU; docs/gpu.md has commands for more
    logging=LoggingSettings(checkpoint_every=1000, log_every=100),
)

PRESETS: dict[str, Job[ShortRun]] = {
    "digits": DIGITS,
    "digits-K40": DIGITS_K40,
    "mnist": MNIST,
    "fashion-mnist": override(MNIST, source="fashion-mnist"),
    "cifar10": CIFAR10,
    "celeba": override(CIFAR10, source="celeba", recipe=replace(PAPER, width=64)),
    "eight-gaussians": GAUSSIANS,
    "eight-gaussians-K100": GAUSSIANS_K100,
}
COSTS = {"digits": 2.0, "digits-K40": 1.3, "mnist": 17, "eight-gaussians": 0.8, "eight-gaussians-K100": 1.3}
CLAIMS = """
One CPU thread, torch 2.15, seeds 0, 1, 2 unless said otherwise. Fréchet distances use the features of a classifier of
the same data.

digits: settings found by jobs.search, K = 6, 768,000 gradient evaluations. Fréchet 12.1, 15.4, 12.3; the noise that
chains start from: 539, as many samples of the data themselves: 1.7.

digits-K40: settings chosen by hand, K = 40, twice the gradient evaluations. Fréchet 10.2, 15.5, 16.5.

mnist: 10,000 images, torch 2.14, seeds 4, 5, 6, Fréchet 57.3, 75.1, 69.8 (noise 1163, floor 4.79). Batch, width and
rate were compared at equal CPU seconds (docs/results.md); the noise of the data keeps up with the chains' steps, as it
must on data that these settings were not made on (docs/stability.md).

eight-gaussians: settings found by jobs.search, K = 10, 2,500,000 gradient evaluations. KL(truth, samples) .075, .069,
.079 (as many exact samples: .060); KL(truth, exp(-U/T)) .57, .31, .41.

eight-gaussians-K100: settings chosen by hand, K = 100, eight times the gradient evaluations. KL(truth, samples) .22,
.15, .17; KL(truth, exp(-U/T)) 27, 27, 19.

fashion-mnist has the settings of mnist; cifar10 and celeba have the paper's, for a GPU. None of them is measured yet.
"""
OBJECTIVE = ("kl", "frechet")


def suggest_langevin(trial: Any, fewest: int, most: int) -> Langevin:
    """A chain with so many steps: its noise, K and drift, all on a logarithmic scale."""
    noise = trial.suggest_float("noise", 2e-3, 0.1, log=True)
    steps = trial.suggest_int("steps", fewest, most, log=True)
    return Langevin(steps=steps, drift=trial.suggest_float("drift", 0.1, 5.0, log=True), noise=noise)


def space(trial: Any, recipe: ShortRun, budget: int) -> ShortRun:
    """What `jobs.search` tries: K, drift, noise, data noise (at least the chains'), learning rate and its annealing.

    Annealing starts between an eighth of the updates that the budget allows and the last of them.
    """
    langevin = suggest_langevin(trial, 5, 100)
    updates = max(8, budget // (recipe.batch_size * langevin.steps))
    return replace(
        recipe,
        langevin=langevin,
        data_noise=trial.suggest_float("data_noise", langevin.noise, 0.3, log=True) if recipe.data_noise else 0.0,
        lr=trial.suggest_float("lr", 5e-5, 5e-3, log=True),
        anneal=round(updates * trial.suggest_float("anneal_from", 1 / 8, 1.0, log=True)),
    )


if __name__ == "__main__":
    experiment("short_run")
