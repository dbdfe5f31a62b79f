"""An energy on a flow backbone, learned with chains that move in the flow's latent space (2006.06897).

It has two stages: first it trains a flow, as `python -m jobs.flow PRESET` does, in the folder `flow` of the run. With
--init-from RUN it starts with the flow of that run. The flow is fixed then, and is sent to chain actors once. In the
plane `grid_kl` is the model's and `flow_grid_kl` the flow's; `log_z_grid` and `log_z` are log Z on a grid and by draws
of N(0, I), whose effective share is `log_z_ess`. How the chains mix, beside chains that move in x: `python -m
jobs.studies.transport RUN`.
"""

from dataclasses import replace
from typing import Any

from jobs import flow
from jobs.cli.experiment import experiment
from jobs.flow import DIGITS_FLOW, MNIST_FLOW, PLANE
from pipeline.recipes.neural_transport import NeuralTransport
from pipeline.runs.job import DataSettings, Job, override

TOY = override(
    flow.TOY,
    recipe=NeuralTransport(
        flow=PLANE,
        steps=8,
        leapfrog_steps=2,
        step_size=0.25,
        batch_size=500,
        energy_lr=1.5e-3,
        lr_decay=0.99,
        width=128,
    ),
    updates=400,
)
DIGITS = Job(
    recipe=NeuralTransport(flow=DIGITS_FLOW, steps=5, step_size=0.2, energy_lr=3e-4, lr_decay=0.993),
    data=DataSettings("digits", test_share=0.1),
    updates=300,
)

PRESETS: dict[str, Job[NeuralTransport]] = {
    "digits": DIGITS,
    "mnist": override(
        DIGITS,
        source="mnist",
        recipe=replace(DIGITS.recipe, flow=MNIST_FLOW, energy_lr=5e-4, lr_decay=0.985, width=16),
        updates=150,
    ),
    "eight-gaussians": TOY,
    "checkerboard": override(TOY, source="checkerboard"),
    "spirals": override(TOY, source="spirals"),
}
COSTS = {"digits": 5.3, "mnist": 36, "eight-gaussians": 1.8, "checkerboard": 1.8, "spirals": 1.8}  # with the flow's
CLAIMS = """
Each run on the flow of its own seed (jobs.flow of the same preset), seeds 0, 1, 2; more in docs/flows.md.

digits: Fréchet 8.4, 7.4, 7.6 on flows of 14.3, 12.1, 15.9. mnist: 109, 116, 120 on flows of 205, 206, 211.

KL(truth, model) in the plane falls by a tenth: eight-gaussians .100, .097, .107 on flows of .110, .108, .130;
checkerboard .213, .202, .244 on .235, .219, .270; spirals .824, .493, .555 on .84, .50, .60.
"""
FIRST_STAGE = flow.PRESETS
"""How the flow is trained that a preset of the same name starts with."""
OBJECTIVE = ("grid_kl", "frechet")


def space(trial: Any, recipe: NeuralTransport, budget: int) -> NeuralTransport:
    """What `jobs.search` tries: K, step size and leapfrog steps of the chains in z, the learning rate and its decay."""
    steps = trial.suggest_int("steps", 2, 40, log=True)
    leapfrog_steps = (
        trial.suggest_int("leapfrog_steps", 1, 8, log=True) if recipe.kernel == "hmc" else recipe.leapfrog_steps
    )
    chains = replace(
        recipe,
        steps=steps,
        leapfrog_steps=leapfrog_steps,
        step_size=trial.suggest_float("step_size", 0.02, 0.8, log=True),
    )
    updates = max(1, budget // (recipe.batch_size * chains.sampler("model", {}, 0).gradient_evaluations))
    return replace(
        chains,
        energy_lr=trial.suggest_float("energy_lr", 1e-5, 1e-2, log=True),
        lr_decay=trial.suggest_float("lr_falls_to", 1e-2, 1.0, log=True) ** (1 / updates),
    )


if __name__ == "__main__":
    experiment("neural_transport")
