"""An energy and a flow that learn to tell data from the flow's samples, without chains (1912.00589).

It has two stages: first it trains a flow, as `python -m jobs.flow PRESET` does, in the folder `flow` of the run. With
--init-from RUN it starts with the flow of that run; digits-few-labels starts with an untrained one. In the plane
`grid_kl` is the energy's, `flow_grid_kl` the flow's, and `log_z_grid` is log Z - c. `bits_per_dim` is the energy's, as
good as its c; `flow_bits_per_dim` is the flow's. With `--labels-per-class N --labelled-batch-size M` the energy has a
head per class. `--family gaussian` is noise contrastive estimation: a fixed Gaussian in place of the flow. For images
and the checkerboard the energy is a tilt of the initial flow (--base flow).
"""

from dataclasses import replace
from typing import Any

from jobs import flow
from jobs.cli.experiment import experiment
from jobs.flow import DIGITS_FLOW, MNIST_FLOW, PLANE
from pipeline.nets.flow import FlowSettings
from pipeline.recipes.flow_contrastive import FlowContrastive
from pipeline.runs.job import Job, override

TOY = override(
    flow.TOY,
    recipe=FlowContrastive(
        flow=PLANE, batch_size=500, energy_lr=3e-3, flow_lr=1e-4, constant_lr=1e-2, lr_decay=0.999, width=128
    ),
    updates=2000,
)
DIGITS = override(
    flow.DIGITS,
    recipe=FlowContrastive(flow=DIGITS_FLOW, base="flow", energy_lr=3e-4, flow_lr=1e-4, lr_decay=0.999),
)

PRESETS: dict[str, Job[FlowContrastive]] = {
    "digits": DIGITS,
    "digits-few-labels": override(
        DIGITS,
        test_share=0.2,
        labels_per_class=5,
        updates=300,
        recipe=replace(DIGITS.recipe, flow=replace(DIGITS_FLOW, margin=0.0), base="none", labelled_batch_size=50),
    ),
    "mnist": override(
        DIGITS,
        source="mnist",
        updates=300,
        recipe=replace(DIGITS.recipe, flow=MNIST_FLOW, width=16, flow_lr=3e-6, lr_decay=0.995),
    ),
    "eight-gaussians": TOY,
    "eight-gaussians-nce": replace(TOY, recipe=replace(TOY.recipe, flow=FlowSettings(family="gaussian"))),
    "checkerboard": override(TOY, source="checkerboard", recipe=replace(TOY.recipe, base="flow")),
    "spirals": override(TOY, source="spirals"),
}
COSTS = {  # with the flow's
    "digits": 4.6,
    "digits-few-labels": 0.6,
    "mnist": 32,
    "eight-gaussians": 1.7,
    "eight-gaussians-nce": 0.5,
    "checkerboard": 1.7,
    "spirals": 1.7,
}
CLAIMS = """
Each run on the flow of its own seed (jobs.flow of the same preset), seeds 0, 1, 2; more in docs/flows.md.

eight-gaussians: KL(truth, energy) .037, .053, .036, flow .107, .103, .111; eight-gaussians-nce: .048, .018, .010.

checkerboard: energy .136, .137, .157, flow .235, .219, .270. spirals: energy .39, .37, .44, flow 4.6, .48, .51.

digits: energy 2.015, 2.029, 2.019 bits per dimension, flow 2.027, 2.042, 2.028, Fréchet 15.0, 11.8, 16.3.

mnist: energy 1.243, 1.253, 1.247 bits per dimension, Fréchet 206, 208, 209: the flow's samples gain nothing.

digits-few-labels: accuracy .80 +- .02 over three draws of the labels, without --init-from.
"""
FIRST_STAGE = flow.PRESETS
"""How the flow is trained that a preset of the same name starts with."""
OBJECTIVE = ("grid_kl", "frechet")


def space(trial: Any, recipe: FlowContrastive, budget: int) -> FlowContrastive:
    """What `jobs.search` tries: whose turn it is to learn, and the learning rates; no chains run."""
    return replace(
        recipe,
        threshold=trial.suggest_float("threshold", 0.5, 0.75),
        energy_lr=trial.suggest_float("energy_lr", 1e-5, 1e-2, log=True),
        constant_lr=trial.suggest_float("constant_lr", 1e-3, 0.1, log=True),
        flow_lr=trial.suggest_float("flow_lr", 1e-6, 1e-3, log=True),
    )


if __name__ == "__main__":
    experiment("flow_contrastive")
