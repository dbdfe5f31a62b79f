"""A VAE and a latent energy-based model that learn from each other, without chains (2006.06059).

`--energy-weight 0` is the VAE alone. With `--held-out-class LABEL --test-share .2` the energy detects items of a class
that learning never saw.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.experiment import experiment
from pipeline.recipes.joint_vae import JointVAE
from pipeline.runs.job import DataSettings, Job, ResourceSettings, override

DIGITS = Job(
    recipe=JointVAE(width=256, sigma=0.5, energy_weight=0.5),
    data=DataSettings("digits"),
    updates=3000,
    resources=ResourceSettings(actors=0),
)

PRESETS: dict[str, Job[JointVAE]] = {
    "digits": DIGITS,
    "mnist": override(DIGITS, source="mnist", recipe=JointVAE(width=256)),
}
COSTS = {"digits": 1.5, "mnist": 2.1}
CLAIMS = """
mnist --test-share .1 --lanes 1, seed 0: Fréchet 207; the VAE alone 411 (1.6 CPU minutes); both at a test MSE of .063.

digits --test-share .2, seeds 4, 5, 6: Fréchet 9.8, 10.8, 11.0 at a test MSE of .034, .032, .033 (with the settings of
mnist 434, 291, 396 at .016 to .018); the VAE alone 38, 36, 40 at .046 to .049.
"""
OBJECTIVE = ("kl", "frechet")


def space(trial: Any, recipe: JointVAE, budget: int) -> JointVAE:
    """What `jobs.search` tries: sigma, the weights of the losses and both learning rates; no chains run."""
    return replace(
        recipe,
        sigma=trial.suggest_float("sigma", 0.1, 1.0, log=True),
        energy_weight=trial.suggest_float("energy_weight", 0.1, 10.0, log=True),
        penalty=trial.suggest_float("penalty", 0.01, 1.0, log=True),
        energy_lr=trial.suggest_float("energy_lr", 1e-5, 1e-3, log=True),
        autoencoder_lr=trial.suggest_float("autoencoder_lr", 1e-4, 3e-3, log=True),
    )


if __name__ == "__main__":
    experiment("joint_vae")
