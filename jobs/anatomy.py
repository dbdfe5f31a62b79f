"""The anatomy of MCMC-based learning: convergent and non-convergent EBMs (1903.12370).

Convergent: persistent chains whose noise outweighs the gradient; long chains keep the distribution of the data.
Non-convergent: little noise, and the short run from noise is the model; long chains leave the data.

Claims, as measured on one CPU thread with torch 2.15, seeds 0, 1, 2; KL(truth, .) in nats, long chains from data:
eight-gaussians-convergent: grid .077, .070, .059, 5,000 steps .153, .138, .117 (exact samples .060), 130 CPU seconds.
eight-gaussians-nonconvergent: short runs .130, .133, .159, grid 15.7, 5.6, 8.2, 5,000 steps .70, .33, .35.
rings-convergent: grid .133, .247, .278, 5,000 steps .201, .335, .359 (exact samples .065): not yet below .1.
rings-nonconvergent: short runs .360, .234, .322, grid 42, 46, 59.
digits-convergent: Fréchet after 2,000 and 20,000 steps 15, 18, 10 and 59, 109, 56 (300 of the data: 5.4).
digits-nonconvergent: fresh short runs 9.8, 14, 15; after 4,000 steps 4e6, 3e6, 7e6.
mnist-convergent: Fréchet after 2,000 steps 63 with seed 0 (300 of the data: 9.9), 18 CPU minutes.
mnist-nonconvergent: not measured; short_run's mnist has the same settings but for the falling rate.
cifar10, flowers: the settings of the paper's code for a GPU, not yet measured. It has none for convergent CIFAR-10,
which takes those of flowers.

Deviations of the toys from the paper's settings: 100 steps or fewer, not 500; 3,000 to 5,000 updates, so the rate is
higher, and falls; noise .06 on eight Gaussians, not .125; on rings, starts U[-4, 4] and a bank of 1,000, not 10,000.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.launch import experiment
from pipeline.recipes.anatomy import Anatomy
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, LoggingSettings, ResourceSettings, override
from pipeline.samplers.langevin import Langevin

TOY = Job(
    name="",
    recipe=Anatomy(),
    updates=3000,
    data=DataSettings(""),
    evaluation=EvaluationSettings(eval_samples=5000, eval_long_run_steps=5000),
    resources=ResourceSettings(actors=0, learners=0),
)
TOY_CONVERGENT = Anatomy(
    langevin=Langevin(steps=100, drift=1.0, noise=0.06),
    bank=10_000,
    data_noise=0.0,
    optimizer="sgd",
    lr=0.1,
    final_lr=1e-3,
    lr_decay=0.999,
)
RINGS_CONVERGENT = replace(  # few chains that make many steps: only so does each of them visit several rings
    TOY_CONVERGENT,
    langevin=Langevin(steps=50, drift=1.0, noise=0.125),
    batch_size=250,
    bank=1000,
    start_scale=4.0,
    lr=1.0,
    final_lr=0.0,
    lr_decay=0.9993,
)
TOY_NONCONVERGENT = Anatomy(
    langevin=Langevin(steps=100, drift=1.0, noise=0.01), start_from="gaussian", data_noise=0.0, lr=1e-3
)
IMAGES = Job(
    name="",
    recipe=Anatomy(),
    updates=3000,
    data=DataSettings(""),
    evaluation=EvaluationSettings(eval_samples=1000, eval_long_run_steps=2000),
)
DIGITS_CONVERGENT = Anatomy(
    langevin=Langevin(steps=20, drift=1.0, noise=0.1),
    bank=1797,
    data_noise=0.15,
    optimizer="sgd",
    lr=0.3,
    final_lr=1e-3,
    lr_decay=0.9993,
)
MNIST_CONVERGENT = (
    replace(  # from data: from noise, rates that learn anything in 2,000 updates blow up in the first ten
        DIGITS_CONVERGENT, start_from="data", bank=2000, width=16, lr=0.03, lr_decay=0.999
    )
)
DIGITS_NONCONVERGENT = Anatomy(
    langevin=Langevin(steps=40, drift=1.0, noise=0.01),
    batch_size=64,
    data_noise=0.05,
    lr=5e-4,
    lr_decay=0.999,
    leaky_slope=0.2,
)
GPU = Job(
    name="",
    recipe=Anatomy(),
    updates=100_000,
    data=DataSettings(""),
    resources=ResourceSettings(actors=1, gpus_per_learner=0.5, gpus_per_actor=0.5),
    logging=LoggingSettings(checkpoint_every=1000, log_every=100),
)
PAPER_CONVERGENT = Anatomy(
    langevin=Langevin(steps=500, drift=1.0, noise=7.5e-3),
    data_noise=1.5e-2,
    optimizer="sgd",
    lr=0.1,
    final_lr=5e-4,
    lr_decay=0.99995,
    architecture="nonlocal",
)
PAPER_NONCONVERGENT = Anatomy(langevin=Langevin(steps=150, drift=1.0, noise=1e-2), data_noise=3e-2, lr=1e-4)


def _preset(data: str, outcome: str, job: Job[Anatomy], recipe: Anatomy, updates: int = 0) -> Job[Anatomy]:
    name = f"anatomy-{data}-{outcome}"
    return override(job, name=name, source=data, recipe=recipe, updates=updates or job.updates)


PRESETS: dict[str, Job[Anatomy]] = {
    job.name.removeprefix("anatomy-"): job
    for job in (
        _preset("eight-gaussians", "convergent", TOY, TOY_CONVERGENT),
        _preset("eight-gaussians", "nonconvergent", TOY, TOY_NONCONVERGENT),
        _preset("rings", "convergent", TOY, RINGS_CONVERGENT, 5000),
        _preset("rings", "nonconvergent", TOY, replace(TOY_NONCONVERGENT, start_scale=2.0), 5000),
        _preset("digits", "convergent", IMAGES, DIGITS_CONVERGENT, 4000),
        _preset("digits", "nonconvergent", IMAGES, DIGITS_NONCONVERGENT, 600),
        _preset("mnist", "convergent", IMAGES, MNIST_CONVERGENT, 2000),
        _preset("mnist", "nonconvergent", IMAGES, replace(DIGITS_NONCONVERGENT, width=16, lr_decay=0.99975), 4300),
        _preset("cifar10", "convergent", GPU, replace(PAPER_CONVERGENT, bank=50_000), 200_000),
        _preset("cifar10", "nonconvergent", GPU, PAPER_NONCONVERGENT),
        _preset("flowers", "convergent", GPU, replace(PAPER_CONVERGENT, bank=8189), 200_000),
        _preset("flowers", "nonconvergent", GPU, PAPER_NONCONVERGENT),
    )
}


def space(trial: Any, recipe: Anatomy, budget: int) -> Anatomy:
    """What `jobs.search anatomy` tries: K, noise, the data's noise (never below it), restarts, optimizer, rate.

    The drift stays, since the network's scale is free. The rate falls over the updates that the budget allows.
    """
    noise = trial.suggest_float("noise", 5e-3, 0.2, log=True)
    langevin = replace(recipe.langevin, noise=noise, steps=trial.suggest_int("steps", 10, 200, log=True))
    updates = max(1, budget // (recipe.batch_size * langevin.steps))
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adam"])
    rates = (1e-2, 1.0) if optimizer == "sgd" else (1e-4, 1e-2)
    return replace(
        recipe,
        langevin=langevin,
        data_noise=trial.suggest_float("data_noise", noise, 0.4, log=True) if recipe.data_noise else 0.0,
        restart_prob=trial.suggest_float("restart", 0.0, 0.1) if recipe.bank else 0.0,
        optimizer=optimizer,
        lr=trial.suggest_float(f"learning_rate_{optimizer}", *rates, log=True),
        final_lr=0.0,
        lr_decay=trial.suggest_float("rate_falls_to", 1e-3, 1.0, log=True) ** (1 / updates),
    )


if __name__ == "__main__":
    experiment("anatomy", PRESETS, __doc__)
