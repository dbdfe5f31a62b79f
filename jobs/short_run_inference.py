"""A generator with several latent layers, learned by short-run inference whose step size is tuned by a KL (1912.01909).

Samples are decoded from N(0, I). `mse` is the error of items reconstructed by chains of their own. The presets named
-L3 and -L5 have 3 and 5 layers, the others one.
"""

from dataclasses import replace
from typing import Any, TypeVar

from jobs.cli.experiment import experiment
from pipeline.recipes.alternating_backprop import AlternatingBackprop
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.runs.job import DataSettings, Job, override

Posterior = TypeVar("Posterior", ShortRunInference, AlternatingBackprop)

DIGITS = Job(recipe=ShortRunInference(width=256), data=DataSettings("digits"), updates=3000)
MNIST = override(DIGITS, source="mnist", updates=1000)


def _layers(job: Job[ShortRunInference], count: int) -> Job[ShortRunInference]:
    return replace(job, recipe=replace(job.recipe, latent_dims=(16,) * count))


PRESETS: dict[str, Job[ShortRunInference]] = {
    "digits": DIGITS,
    "digits-L3": _layers(DIGITS, 3),
    "mnist": MNIST,
    "mnist-L3": _layers(MNIST, 3),
    "mnist-L5": _layers(MNIST, 5),
}
COSTS = {"mnist": 1.7, "mnist-L3": 3.4, "mnist-L5": 4.4}
CLAIMS = """
mnist, mnist-L3, mnist-L5 with --test-share .1, seed 0: test MSE .062, .044, .035; Fréchet 267, 253, 511. A VAE with the
decoder of one layer: .074 and 721.

digits, digits-L3 are not measured yet.
"""
OBJECTIVE = ("mse", "mse")


def space(trial: Any, recipe: Posterior, budget: int) -> Posterior:
    """What `jobs.search` tries: sigma, the step size in units of it, K and the learning rate."""
    sigma = trial.suggest_float("sigma", 0.03, 1.0, log=True)
    return replace(
        recipe,
        sigma=sigma,
        step_size=sigma * trial.suggest_float("step_size_over_sigma", 0.03, 1.0, log=True),
        steps=trial.suggest_int("steps", 5, 60, log=True),
        lr=trial.suggest_float("lr", 1e-4, 5e-3, log=True),
    )


if __name__ == "__main__":
    experiment("short_run_inference")
