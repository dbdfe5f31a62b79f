"""Alternating back-propagation: a generator, and a latent vector a datum that goes on from epoch to epoch (1911.11374).

Samples are decoded from N(0, I); `mse` is of items reconstructed by chains that start afresh.

Measured on digits, --latent 8 --test-share .2 --updates 1500, seed 0, 72 CPU s: reconstruction .042 by chains of 100 K
(8 principal components: .095), hidden halves .134 by the mean of ten (.218). mnist: not measured.
"""

from jobs.cli.launch import experiment
from jobs.short_run_inference import space as space  # of the same posterior chains
from pipeline.recipes.alternating_backprop import AlternatingBackprop
from pipeline.runs.job import DataSettings, Job, override

DIGITS = Job(
    name="alternating_backprop-digits", updates=3000, recipe=AlternatingBackprop(), data=DataSettings("digits")
)

PRESETS: dict[str, Job[AlternatingBackprop]] = {
    "digits": DIGITS,
    "mnist": override(DIGITS, name="alternating_backprop-mnist", source="mnist", recipe=AlternatingBackprop(width=512)),
}

if __name__ == "__main__":
    experiment("alternating_backprop", PRESETS, __doc__)
