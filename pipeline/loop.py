"""The loop of one rank: there is no other loop in the project."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from pipeline import weights
from pipeline.chains import Answers, AnyPool
from pipeline.data import Dataset, load
from pipeline.errors import BadInput
from pipeline.evaluation import samples
from pipeline.job import Job, to_json
from pipeline.learner import gather, world
from pipeline.rank import Rank, Spent
from pipeline.report import Report, result
from pipeline.storage import Storage


@runtime_checkable
class Progress(Protocol):
    """A progress bar: tqdm's, or what tells one elsewhere."""

    def update(self, n: int = 1) -> Any:
        """Move on by n updates."""

    def set_description(self, desc: str, refresh: bool = True) -> Any:
        """What stands before the bar."""

    def close(self) -> Any:
        """Leave it as it is."""


def train(
    job: Job[Any], device: torch.device, pool: AnyPool, progress: Callable[..., Progress]
) -> dict[str, Any] | None:
    """Run a job on this rank, from its newest checkpoint; rank 0 returns what it wrote to result.json.

    Raises:
        Diverged: a number is not finite.
        BadInput: the data or the checkpoint are not the job's.
    """
    run = Rank(job, _agreed(job), device, pool)
    start = run.restore()
    if run.rank > 0:
        for update in range(start, job.updates):
            run.step(update)
            run.save_if_due(update + 1)
        run.spent()
        return None
    with closing(Report(Storage.at(job.out), start, job.log_every)) as report:
        with closing(progress(total=job.updates, desc=job.name, unit="update")) as bar:
            bar.update(start)
            for update in range(start, job.updates):
                metrics, answers = run.step(update)
                _tell(run, report, update, metrics, answers)
                bar.set_description(_line(job, metrics), refresh=False)
                bar.update(1)
                run.save_if_due(update + 1)
        return _finish(run, report, run.spent())


def _agreed(job: Job[Any]) -> Dataset:
    """The job's data, once every rank has the same, and sees the run folder; a fault of one is raised by all."""
    data, fault = None, ""
    try:
        data = load(job.data, job.limit)
        if not Storage.at(job.out).exists("job.json"):
            fault = f"--out {job.out} is not seen by every machine: there is no job.json for learner {world()[0]}"
    except BadInput as e:
        fault = str(e)
    faults = gather((fault, data.key if data else ""))
    for fault, key in faults:
        if fault or key != faults[0][1]:
            raise BadInput(fault or f"--data {job.data} is not the same on every machine")
    assert data is not None
    return data


def _tell(run: Rank, report: Report, update: int, metrics: Mapping[str, float], answers: Answers) -> None:
    job, done = run.job, update + 1
    if update % job.log_every == 0 or done == job.updates:
        report.log(update, metrics)
    if run.due(done):
        for (chain, lane), answer in answers.items():
            if lane == 0:
                report.histogram(f"{chain}/energy", torch.tensor(answer.energy), update)
                report.histogram(f"{chain}/grad_norm", torch.tensor(answer.grad_norm), update)
        first = next(iter(job.recipe.chains), "")
        if run.data.spec.kind == "image" and first:
            report.samples(f"update-{done:08d}", samples.states(answers, first), update)
        report.sync()  # before the checkpoint, so that what a resumed run keeps of the lines is all there


def _line(job: Job[Any], metrics: Mapping[str, float]) -> str:
    shown = [
        f"{name.split('/')[1]} {metrics[name]:+.3f}"
        for name in ("chains/contrast", "chains/grad_norm")
        if name in metrics
    ]
    return ", ".join([job.name, *shown])


def _finish(run: Rank, report: Report, spent: Spent) -> dict[str, Any]:
    """Final samples, metrics, and result.json."""
    job, nets, data = run.job, run.learner.nets, run.data
    verdict = samples.Verdict({}, None)
    if job.samples and job.recipe.chains:
        drawn = samples.tasks(job.recipe, nets, data, job.samples, job.updates, job.seed)
        run.pool.submit(run.pool.next, drawn, weights.flatten(nets))
        answers = run.pool.collect(run.pool.next - 1)
        start, x = torch.from_numpy(np.concatenate([task.x for task in drawn])), samples.states(answers, drawn[0].chain)
        verdict = samples.judge(job.recipe, nets, data, start, x, drawn[0].sampler.temperature)
        if data.spec.kind == "image":
            report.samples("final", x, job.updates)
    for name, value in verdict.metrics.items():
        report.board.add_scalar(f"final/{name}", value, job.updates)
    if verdict.figure:
        report.figure("densities", verdict.figure, job.updates)
    report.sync()
    found = result(to_json(job), dataclasses.asdict(spent), verdict.metrics, weights.digest(nets))
    Storage.at(job.out).write_json("result.json", found)
    return found
