"""The anatomy of MCMC-based learning, convergent and not (1903.12370)."""

from dataclasses import replace

from jobs.launch import experiment
from pipeline.job import Job
from pipeline.recipes.anatomy import Anatomy
from pipeline.samplers import Langevin

TOY = Job(name="", recipe=Anatomy(), data="", updates=3000, samples=5000, long_run=5000, actors=0, learners=0)
TOY_CONVERGENT = Anatomy(
    langevin=Langevin(steps=100, drift=1.0, noise=0.125),
    bank=10_000,
    data_noise=0.0,
    optimizer="sgd",
    learning_rate=0.1,
    learning_rate_end=1e-3,
    decay=0.999,
)
TOY_NONCONVERGENT = Anatomy(
    langevin=Langevin(steps=100, drift=1.0, noise=0.01), start_from="gaussian", data_noise=0.0, learning_rate=1e-3
)
DIGITS = Anatomy(
    langevin=Langevin(steps=50, drift=1.0, noise=0.05),
    bank=1797,
    data_noise=0.1,
    optimizer="sgd",
    learning_rate=0.1,
    learning_rate_end=1e-3,
    decay=0.999,
)

PRESETS: dict[str, Job[Anatomy]] = {
    "eight-gaussians-convergent": replace(
        TOY, name="anatomy-eight-gaussians-convergent", data="eight-gaussians", recipe=TOY_CONVERGENT
    ),
    "eight-gaussians-nonconvergent": replace(
        TOY, name="anatomy-eight-gaussians-nonconvergent", data="eight-gaussians", recipe=TOY_NONCONVERGENT
    ),
    "rings-convergent": replace(TOY, name="anatomy-rings-convergent", data="rings", recipe=TOY_CONVERGENT),
    "rings-nonconvergent": replace(
        TOY, name="anatomy-rings-nonconvergent", data="rings", recipe=replace(TOY_NONCONVERGENT, start_scale=2.0)
    ),
    "digits-convergent": replace(
        TOY, name="anatomy-digits-convergent", data="digits", recipe=DIGITS, samples=300, updates=1500
    ),
}

if __name__ == "__main__":
    experiment("anatomy", Job[Anatomy], PRESETS, __doc__)
