"""An energy and a flow that learn by telling and not being told from each other, without chains (1912.00589).

It begins with a flow: `python -m jobs.flow PRESET`, then `python -m jobs.flow_contrastive PRESET --networks RUN`;
without --networks from an untrained one. In the plane `grid_kl` is the energy's and `flow_grid_kl` the flow's, and
`log_mass` is log Z - c; `bits_per_dim` are the energy's, as good as its c, `flow_bits_per_dim` the flow's. --labels N with
--labelled-batch gives the energy a head for each class. `--family gaussian` is noise contrastive estimation, with a
fixed Gaussian for the flow. Of images, and of the checkerboard, the energy is a tilt of the flow as it began (--base
flow). Measured in docs/flows.md.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.launch import experiment
from jobs.flow import DIGITS_FLOW, MNIST_FLOW, PLANE
from pipeline.nets.flow import FlowSettings
from pipeline.recipes.flow_contrastive import FlowContrastive
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, ResourceSettings, override

TOY = Job(
    name="flow_contrastive-eight-gaussians",
    recipe=FlowContrastive(
        flow=PLANE, batch_size=500, energy_lr=3e-3, flow_lr=1e-4, constant_lr=1e-2, lr_decay=0.999, width=128
    ),
    updates=2000,
    lanes=1,
    data=DataSettings("eight-gaussians"),
    evaluation=EvaluationSettings(eval_samples=5000),
    resources=ResourceSettings(actors=0, learners=0),
)
DIGITS = Job(
    name="flow_contrastive-digits",
    recipe=FlowContrastive(flow=DIGITS_FLOW, base="flow", energy_lr=3e-4, flow_lr=1e-4, lr_decay=0.999),
    lanes=1,
    updates=1000,
    data=DataSettings("digits", test_share=0.1),
    resources=ResourceSettings(actors=0, learners=0),
)

PRESETS: dict[str, Job[FlowContrastive]] = {
    "digits": DIGITS,
    "digits-few-labels": override(
        DIGITS,
        name="flow_contrastive-digits-few-labels",
        test_share=0.2,
        labels_per_class=5,
        updates=300,
        recipe=replace(DIGITS.recipe, flow=replace(DIGITS_FLOW, margin=0.0), base="none", labelled_batch_size=50),
    ),
    "mnist": override(
        DIGITS,
        name="flow_contrastive-mnist",
        source="mnist",
        updates=300,
        recipe=replace(DIGITS.recipe, flow=MNIST_FLOW, width=16, flow_lr=3e-6, lr_decay=0.995),
    ),
    "eight-gaussians": TOY,
    "eight-gaussians-nce": replace(
        TOY,
        name="flow_contrastive-eight-gaussians-nce",
        recipe=replace(TOY.recipe, flow=FlowSettings(family="gaussian")),
    ),
    "checkerboard": override(
        TOY, name="flow_contrastive-checkerboard", source="checkerboard", recipe=replace(TOY.recipe, base="flow")
    ),
    "spirals": override(TOY, name="flow_contrastive-spirals", source="spirals"),
}


def space(trial: Any, recipe: FlowContrastive, budget: int) -> FlowContrastive:
    """What `jobs.search flow-contrastive` tries: whose turn it is, and the rates; it runs no chains."""
    return replace(
        recipe,
        threshold=trial.suggest_float("threshold", 0.5, 0.75),
        energy_lr=trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
        constant_lr=trial.suggest_float("constant_rate", 1e-3, 0.1, log=True),
        flow_lr=trial.suggest_float("flow_rate", 1e-6, 1e-3, log=True),
    )


if __name__ == "__main__":
    experiment("flow_contrastive", PRESETS, __doc__)
