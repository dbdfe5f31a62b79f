"""A flow learned by maximum likelihood: what flow_contrastive and neural_transport start with (--init-from RUN).

In the plane `grid_kl` is the flow's exact KL from the truth, and `log_z_grid` the log of the density's sum over the
grid; `bits_per_dim` of images is computed on the items held out by --test-share.
"""

from jobs.cli.experiment import experiment
from pipeline.nets.flow import FlowSettings
from pipeline.recipes.flow import MaximumLikelihoodFlow
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, ResourceSettings, override

PLANE = FlowSettings(family="affine", couplings=6, hidden=64)
DIGITS_FLOW = FlowSettings(family="glow", couplings=4, scales=2, hidden=64, margin=0.02, levels=17)
MNIST_FLOW = FlowSettings(family="glow", couplings=4, scales=2, hidden=32, margin=0.002)
TOY = Job(
    recipe=MaximumLikelihoodFlow(flow=PLANE, batch_size=500, lr=2e-3, lr_decay=0.998),
    data=DataSettings("eight-gaussians"),
    updates=1000,
    lanes=1,
    evaluation=EvaluationSettings(eval_samples=5000),
    resources=ResourceSettings(actors=0, learners=0),
)
DIGITS = Job(
    recipe=MaximumLikelihoodFlow(flow=DIGITS_FLOW, lr=3e-3, lr_decay=0.997),
    data=DataSettings("digits", test_share=0.1),
    updates=1000,
    lanes=1,
    resources=ResourceSettings(actors=0, learners=0),
)

PRESETS: dict[str, Job[MaximumLikelihoodFlow]] = {
    "digits": DIGITS,
    "mnist": override(
        DIGITS,
        source="mnist",
        recipe=MaximumLikelihoodFlow(flow=MNIST_FLOW, batch_size=50, lr=6e-3, lr_decay=0.9998),
        updates=18_000,
    ),
    "eight-gaussians": TOY,
    "checkerboard": override(TOY, source="checkerboard"),
    "spirals": override(TOY, source="spirals"),
}
COSTS = {"digits": 1.4, "mnist": 30, "eight-gaussians": 0.3, "checkerboard": 0.3, "spirals": 0.3}
CLAIMS = """
Seeds 0, 1, 2; more in docs/flows.md.

digits: 2.022, 2.038, 2.027 bits per dimension, Fréchet 14.3, 12.1, 15.9.

mnist: 1.244, 1.254, 1.248 bits per dimension, Fréchet 205, 206, 211.

eight-gaussians: KL(truth, flow) .123, .112, .126. checkerboard: .235, .219, .270. spirals: .84, .50, .60.
"""


if __name__ == "__main__":
    experiment("flow")
