"""Tell items of a label that learning never saw, by their energy under a latent-variable model (2006.08205, table 3).

The protocol is that of later code by the same group: of the items with other labels a fifth, drawn once and for all, is
held back, and all items of the label held out are. So about a third of what is scored is anomalous on MNIST, which is
the `auprc_chance` of a score that says nothing. `auprc` and `auroc` take the held-out label for positive, and a high
score for a sign of it. latent-prior: the score is -log p(x, z) without normalisers, as the paper has it, at the end z
of a posterior chain as in learning; `auprc_prior` has the learned prior's part of it alone. joint-vae: U(x, mu(x));
`auprc_vae` has -log p(x, mu(x)) of the generator. The paper's figures are means over the last ten epochs; these are of
the last update. flow: -log q(x). flow-contrastive: -log p(x); neural-transport: U(x) - log q(x); of both, `auprc_flow`
by their flow's -log q(x). These two begin with --networks RUN, a run of this command's flow.
"""

from typing import Any

from jobs import flow, flow_contrastive, joint_vae, latent_prior, neural_transport
from jobs.cli.launch import experiment
from pipeline.runs.job import Job, override

PRESETS: dict[str, Job[Any]] = {
    name: override(job, name=f"anomaly-{name}", test_share=0.2, held_out_class=4)
    for name, job in (
        ("latent-prior", latent_prior.PRESETS["mnist"]),
        ("joint-vae", joint_vae.PRESETS["mnist"]),
        ("flow", flow.PRESETS["mnist"]),
        ("flow-contrastive", flow_contrastive.PRESETS["mnist"]),
        ("neural-transport", neural_transport.PRESETS["mnist"]),
    )
}

if __name__ == "__main__":
    experiment("anomaly", PRESETS, __doc__)
