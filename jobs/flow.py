"""A flow learned by maximum likelihood: what flow_contrastive and neural_transport begin with (--networks RUN).

`grid_kl` is the flow's exact KL from the truth in the plane, `log_mass` log of what its density sums to on the grid;
`bits_per_dim` a dimension of images are of items that --test-share held back. Measured in docs/flows.md: grid KL .108 to .130
on eight Gaussians; digits 2.02 to 2.04 bits, Frechet 12 to 16; mnist, in half an hour of one CPU, 1.24 to 1.25 bits,
Frechet 205 to 211.
"""

from jobs.cli.launch import experiment
from pipeline.nets.flow import FlowSettings
from pipeline.recipes.flow import MaximumLikelihoodFlow
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, ResourceSettings, override

PLANE = FlowSettings(family="affine", couplings=6, hidden=64)
DIGITS_FLOW = FlowSettings(family="glow", couplings=4, scales=2, hidden=64, margin=0.02, levels=17)
MNIST_FLOW = FlowSettings(family="glow", couplings=4, scales=2, hidden=32, margin=0.002)
TOY = Job(
    name="flow-eight-gaussians",
    recipe=MaximumLikelihoodFlow(flow=PLANE, batch_size=500, lr=2e-3, lr_decay=0.998),
    updates=1000,
    lanes=1,
    data=DataSettings("eight-gaussians"),
    evaluation=EvaluationSettings(eval_samples=5000),
    resources=ResourceSettings(actors=0, learners=0),
)
DIGITS = Job(
    name="flow-digits",
    recipe=MaximumLikelihoodFlow(flow=DIGITS_FLOW, lr=3e-3, lr_decay=0.997),
    lanes=1,
    updates=1000,
    data=DataSettings("digits", test_share=0.1),
    resources=ResourceSettings(actors=0, learners=0),
)

PRESETS: dict[str, Job[MaximumLikelihoodFlow]] = {
    "digits": DIGITS,
    "mnist": override(
        DIGITS,
        name="flow-mnist",
        source="mnist",
        recipe=MaximumLikelihoodFlow(flow=MNIST_FLOW, batch_size=50, lr=6e-3, lr_decay=0.9998),
        updates=18_000,
    ),
    "eight-gaussians": TOY,
    "checkerboard": override(TOY, name="flow-checkerboard", source="checkerboard"),
    "spirals": override(TOY, name="flow-spirals", source="spirals"),
}

if __name__ == "__main__":
    experiment("flow", PRESETS, __doc__)
