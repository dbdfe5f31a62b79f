"""Experiments of two stages: the flow that a run starts with is trained first, in the folder `flow` of the run."""

from dataclasses import replace
from types import ModuleType
from typing import Any

from pipeline.batch import Spec
from pipeline.errors import InputError, RunWriteError
from pipeline.recipes.flow import MaximumLikelihoodFlow
from pipeline.runs.job import Job, ResourceSettings, check_job
from pipeline.runs.job_json import has_finished, load_run, to_json
from pipeline.runs.journal import provenance
from pipeline.runs.storage import Storage
from pipeline.training.pretrained import check_pretrained

FOLDER = "flow"
"""Of the first stage, in the run's folder."""


def flow_folder(run: Storage) -> Storage:
    """The folder of a run's first stage."""
    return run / FOLDER


def flow_preset(
    module: ModuleType, preset: str, job: Job[Any], updates: int | None = None
) -> Job[MaximumLikelihoodFlow] | None:
    """How the flow is trained that a run starts with; None: it has no first stage.

    Args:
        module: the experiment's.
        preset: its name.
        job: the run.
        updates: of the flow; None: as its preset says; 0: it is not trained.
    """
    flow: Job[MaximumLikelihoodFlow] | None = getattr(module, "FIRST_STAGE", {}).get(preset)
    if flow is None or updates == 0 or job.init_from or job.recipe.flow.family == "gaussian":
        return None
    return replace(flow, updates=updates or flow.updates)


def begin_first_stage(job: Job[Any], flow: Job[MaximumLikelihoodFlow]) -> Job[Any]:
    """Write the first stage's job.json, unless it is there; the job, which starts with its flow.

    Args:
        job: a checked job with a run folder and a recipe whose settings of the flow are `flow`.
        flow: how the flow is trained: the preset of jobs.flow.

    Raises:
        InputError: the flow cannot be trained like that, or the folder cannot be written to.
    """
    stage = replace(
        flow,
        name=f"{job.name}-flow",
        recipe=replace(flow.recipe, flow=job.recipe.flow),
        data=replace(job.data, labels_per_class=0),
        seed=job.seed,
        out=flow_folder(Storage.at(job.out)).uri,
        resources=_resources(job),
        logging=job.logging,
        evaluation=replace(job.evaluation, eval_long_run_steps=0),
    )
    check_job(stage)
    out = Storage.at(stage.out)
    try:
        if not out.exists("job.json"):
            out.write_json("job.json", {**to_json(stage), "provenance": provenance()})
    except RunWriteError as e:
        raise InputError(str(e)) from e
    return replace(job, init_from=stage.out)


def unfinished_first_stage(job: Job[Any]) -> Job[Any] | None:
    """The first stage of a run, where it has begun and not ended."""
    if not awaits_first_stage(job) or has_finished(Storage.at(job.init_from)):
        return None
    return replace(load_run(job.init_from), resources=_resources(job))


def resolve_first_stage(job: Job[Any], spec: Spec) -> Job[Any]:
    """The job with the checkpoint of its first stage, if it has one, as `check_pretrained` does."""
    if not awaits_first_stage(job):
        return job
    return check_pretrained(job, spec)


def awaits_first_stage(job: Job[Any]) -> bool:
    """Whether the job is to start with the flow in its own folder, and no checkpoint of it is chosen yet."""
    return bool(job.init_from) and job.init_from == flow_folder(Storage.at(job.out)).uri


def _resources(job: Job[Any]) -> ResourceSettings:
    """Those of the job, for a run on one lane without chains."""
    return replace(job.resources, learners=1 if job.resources.learners else 0, actors=0, observers=0)
