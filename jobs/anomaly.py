"""Tell items of a label that learning never saw, by their energy under a latent-variable model (2006.08205, table 3).

A fifth of the data, drawn once and for all, is held back; the label held out is taken from the rest, which is what the
model learns. The score of an item that was held back is -log p(x, z) without normalisers at its posterior state z
(latent-prior), or U(x, mu(x)) (joint-vae); `auprc` and `auroc` take the held-out label for positive. The paper averages
its scores over the last ten epochs; these are of the last update.
"""

from dataclasses import replace
from typing import Any

from jobs import joint_vae, latent_prior
from jobs.launch import experiment
from pipeline.job import Job

PRESETS: dict[str, Job[Any]] = {
    name: replace(job, name=f"anomaly-{name}", test_share=0.2, held_out=4)
    for name, job in (("latent-prior", latent_prior.PRESETS["mnist"]), ("joint-vae", joint_vae.PRESETS["mnist"]))
}

if __name__ == "__main__":
    experiment("anomaly", PRESETS, __doc__)
