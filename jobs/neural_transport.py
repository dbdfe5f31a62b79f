"""An energy on the backbone of a flow, learned with chains that move behind the flow (2006.06897).

It begins with a flow: `python -m jobs.flow PRESET`, then `python -m jobs.neural_transport PRESET --networks RUN`. The
flow is fixed, and travels to chain actors once. In the plane `grid_kl` is the model's and `flow_grid_kl` the flow's
own; `log_mass` and `log_z` are log Z on a grid and by draws of N(0, I), of which the share `log_z_ess` is effective.
Measured in docs/flows.md: it halves its flow's Frechet distance on digits and mnist. `python -m jobs.transport RUN`
says how the chains mix, beside chains that move in x.
"""

from dataclasses import replace
from typing import Any

from jobs.cli.launch import experiment
from jobs.flow import DIGITS_FLOW, MNIST_FLOW, PLANE
from pipeline.recipes.neural_transport import NeuralTransport
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, ResourceSettings, override

TOY = Job(
    name="neural_transport-eight-gaussians",
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
    lanes=1,
    data=DataSettings("eight-gaussians"),
    resources=ResourceSettings(learners=0, actors=0),
    evaluation=EvaluationSettings(eval_samples=5000),
)
DIGITS = Job(
    name="neural_transport-digits",
    recipe=NeuralTransport(flow=DIGITS_FLOW, steps=5, step_size=0.2, energy_lr=3e-4, lr_decay=0.993),
    updates=300,
    data=DataSettings("digits", test_share=0.1),
)

PRESETS: dict[str, Job[NeuralTransport]] = {
    "digits": DIGITS,
    "mnist": override(
        DIGITS,
        name="neural_transport-mnist",
        source="mnist",
        recipe=replace(DIGITS.recipe, flow=MNIST_FLOW, energy_lr=5e-4, lr_decay=0.985, width=16),
        updates=150,
    ),
    "eight-gaussians": TOY,
    "checkerboard": override(TOY, name="neural_transport-checkerboard", source="checkerboard"),
    "spirals": override(TOY, name="neural_transport-spirals", source="spirals"),
}


def space(trial: Any, recipe: NeuralTransport, budget: int) -> NeuralTransport:
    """What `jobs.search neural-transport` tries: K, the step and leapfrogs of the chains in z, and the rate."""
    steps = trial.suggest_int("steps", 2, 40, log=True)
    leapfrog_steps = trial.suggest_int("leapfrogs", 1, 8, log=True) if recipe.kernel == "hmc" else recipe.leapfrog_steps
    tried = replace(
        recipe, steps=steps, leapfrog_steps=leapfrog_steps, step_size=trial.suggest_float("step", 0.02, 0.8, log=True)
    )
    updates = max(1, budget // (recipe.batch_size * tried.sampler("model", {}, 0).gradient_evaluations))
    return replace(
        tried,
        energy_lr=trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
        lr_decay=trial.suggest_float("rate_falls_to", 1e-2, 1.0, log=True) ** (1 / updates),
    )


if __name__ == "__main__":
    experiment("neural_transport", PRESETS, __doc__)
