"""Short-run MCMC as a model of images and points (1904.09770).

The model is K Langevin steps from noise under a learned energy; K, the start and the noise belong to it.
"""

from jobs.launch import experiment
from pipeline.job import Job
from pipeline.recipes.short_run import ShortRun
from pipeline.samplers import Langevin

PRESETS: dict[str, Job[ShortRun]] = {
    # scikit-learn's 1,797 handwritten digits, 8x8
    "digits": Job(
        name="short_run-digits",
        data="digits",
        updates=400,
        recipe=ShortRun(langevin=Langevin(steps=40, drift=1.0, noise=0.01), width=32, data_noise=0.1),
    ),
}

if __name__ == "__main__":
    experiment("short_run", Job[ShortRun], PRESETS, __doc__)
