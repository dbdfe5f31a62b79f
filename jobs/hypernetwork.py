"""A hypernetwork that samples the weights of classifiers, as accurate and as diverse as its settings say (1905.02898).

`accuracy` is that of an ensemble of 30 members on the items held out, `member_accuracy` that of single ones. See also
`jobs.ensemble RUN` and `jobs.distill RUN`.
"""

from dataclasses import replace

from jobs.cli.experiment import experiment
from pipeline.recipes.hypernetwork import HypernetworkEnsemble
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, ResourceSettings, override

DIGITS = Job(
    recipe=HypernetworkEnsemble(lr_decay=0.998),
    data=DataSettings("digits", test_share=0.3, validation_share=0.1),
    updates=1500,
    lanes=1,
    resources=ResourceSettings(actors=0, learners=0),
)
PRESETS: dict[str, Job[HypernetworkEnsemble]] = {"digits": DIGITS}
COSTS: dict[str, float] = {}
CLAIMS = "Nothing is measured yet."
OBJECTIVE = ("accuracy",)


def space(trial, recipe, budget):
    """lambda, the classifiers sampled per update, and the learning rate."""
    return recipe


if __name__ == "__main__":
    experiment("hypernetwork")
