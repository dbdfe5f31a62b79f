"""The loop of one rank: there is no other loop in the project."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from pipeline import owner, weights
from pipeline.chains import Answers, AnyPool, advance
from pipeline.data import Dataset
from pipeline.errors import BadInput
from pipeline.evaluation import diagnostics, held_out, perplexity, samples
from pipeline.health import Diverged
from pipeline.job import Job, dataset, to_json
from pipeline.learner import gather, world
from pipeline.rank import Rank
from pipeline.report import METRICS, Report, result
from pipeline.spent import Spent
from pipeline.storage import Storage

SHOWN = 100
"""Samples in a grid."""


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
    job: Job[Any],
    device: torch.device,
    pool: AnyPool,
    progress: Callable[..., Progress],
    command: str = "",
    restarts: Callable[[], int] = lambda: 0,
    judged: bool = True,
) -> dict[str, Any] | None:
    """Run a job on this rank, from its newest checkpoint; rank 0 returns what it wrote to result.json.

    Args:
        job: with job.json in its folder.
        device: of the learner.
        pool: what moves the chains.
        progress: makes a progress bar.
        command: what `owner.claim` said; empty: this call is the command, and takes the run over.
        restarts: says how often the command's actors were restarted so far.
        judged: whether final metrics are taken.

    Raises:
        Diverged: a number is not finite or out of all proportion, and the job does not roll back (any more).
        BadInput: the data or the checkpoint are not the job's.
        Unanswered: a task came back from no actor.
        Unwritable: the run folder cannot be written to.
        TakenOver: another command works on the run. Like the last two, this is raised on one rank alone.
    """
    data, out = _agreed(job), Storage.at(job.out)
    own = owner.join(out, command or owner.claim(out)) if world()[0] == 0 else None
    run = Rank(job, data, device, pool, own, restarts)
    start = run.restore()
    while True:
        try:
            return _attempted(run, start, progress, judged)
        except Diverged as e:
            fault = e.with_traceback(None)  # whose frames would hold on to the networks
        run, start = run.rolled_back(fault)
        if run.rank == 0:
            _set_aside(run, start, fault)


def _attempted(run: Rank, start: int, progress: Callable[..., Progress], judged: bool) -> dict[str, Any] | None:
    """The updates from `start` to the last, as far as they come; rank 0 returns what it wrote to result.json."""
    job = run.job
    if run.rank > 0:
        for update in range(start, job.updates):
            run.step(update)
            run.save_if_due(update + 1)
        run.spent()
        return None
    assert run.owner
    run.check_owner()
    if run.data.statistics:
        Storage.at(job.out).write_json("data.json", run.data.statistics)
    with closing(Report(Storage.at(job.out), start, job.log_every, run.owner)) as report:
        with closing(progress(total=job.updates, desc=job.name, unit="update")) as bar:
            bar.update(start)
            for update in range(start, job.updates):
                metrics, answers = run.step(update)
                _tell(run, report, update, metrics, answers)
                bar.set_description(_line(job, metrics), refresh=False)
                bar.update(1)
                run.save_if_due(update + 1)
        return _finish(run, report, run.spent(), _final(run, report, progress) if judged else {})


def _set_aside(run: Rank, to: int, fault: Diverged) -> None:
    """Keep the lines of the attempt that has failed, and say that it has."""
    out, attempt = Storage.at(run.job.out), run.learner.attempt
    out.write(f"metrics-attempt-{attempt - 1}.jsonl", out.read(METRICS))
    print(f"{fault}; going on from update {to}, attempt {attempt}", file=sys.stderr)


def _agreed(job: Job[Any]) -> Dataset:
    """The job's data, once every rank has the same, and sees the run folder; a fault of one is raised by all."""
    data, fault = None, ""
    try:
        data = dataset(job)
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
        report.log(update, {**metrics, **{f"faults/{name}": n for name, n in run.faults().items() if n}})
    if run.due(done):
        run.check_owner()
        for (chain, lane), answer in answers.items():
            if lane == 0:
                report.histogram(f"{chain}/energy", torch.tensor(answer.energy), update)
                report.histogram(f"{chain}/grad_norm", torch.tensor(answer.grad_norm), update)
        for name, value in diagnostics.oscillation(*_d_and_v(run)).items():
            report.scalar(f"diagnostics/{name}", value, update)
        if run.data.spec.kind == "image":
            report.samples(f"update-{done:08d}", _shown(run, answers, done), update)
        if run.data.spec.kind == "text":
            report.text(f"update-{done:08d}", run.data.sentences(_shown(run, answers, done)), update)
        report.sync()  # before the checkpoint, so that what a resumed run keeps of the lines is all there


def _shown(run: Rank, answers: Answers, done: int) -> torch.Tensor:
    """What the model's chains of this update stand for; where learning runs none, some are run for it."""
    recipe, nets, seed = run.job.recipe, run.learner.nets, run.job.seed
    if recipe.model in recipe.chains:
        return samples.decoded(recipe, nets, samples.states(answers, recipe.model)[:SHOWN], seed)
    tasks = samples.tasks(recipe, nets, run.data, SHOWN, done, seed)
    moved = {(task.chain, task.lane.index): advance(recipe, nets, task) for task in tasks}
    return samples.decoded(recipe, nets, samples.states(moved, recipe.model), seed)


def _d_and_v(run: Rank) -> tuple[list[float], list[float]]:
    """What was seen of both, up to now, of the model's chains; empty for recipes that run none."""
    recipe, history = run.job.recipe, run.watch.history
    chain = "chains" if len(recipe.chains) == 1 else f"chains/{recipe.model}"
    return history.get("chains/contrast", []), history.get(f"{chain}/grad_norm", [])


def _line(job: Job[Any], metrics: Mapping[str, float]) -> str:
    shown = [
        f"{name.rpartition('/')[2]} {metrics[name]:+.3f}"
        for name in ("chains/contrast", "chains/grad_norm", "value", "told_apart", "mse", "bits", "nats", "accuracy")
        if name in metrics
    ]
    attempt = [f"attempt {metrics['attempt']:.0f}"] if metrics["attempt"] else []
    return ", ".join([job.name, *attempt, *shown])


def _final(run: Rank, report: Report, progress: Callable[..., Progress]) -> dict[str, float]:
    """Final samples and metrics."""
    job, nets, data = run.job, run.learner.nets, run.data
    verdict = samples.Verdict({}, None)
    if job.samples:
        states = _drawn(run, progress)
        drawn = {name: samples.decoded(job.recipe, nets, x, job.seed) for name, x in states.items()}
        sampler = job.recipe.sampler(job.recipe.model, nets, job.updates)
        verdict = samples.judge(job.recipe, nets, data, drawn, sampler.temperature)
        for name, x in drawn.items():
            if data.spec.kind == "image" and name != "start":
                report.samples("final" if name == "short_run" else name, x, job.updates)
            if data.spec.kind == "text":
                report.text("final" if name == "short_run" else name, data.sentences(x), job.updates)
        _classes(run, report)
    metrics = {**verdict.metrics, **_held_out(run, report)}
    for name, value in metrics.items():
        report.scalar(f"final/{name}", value, job.updates)
    if verdict.figure:
        report.figure("densities", verdict.figure, job.updates)
    return metrics


def _finish(run: Rank, report: Report, spent: Spent, metrics: Mapping[str, float]) -> dict[str, Any]:
    """The figure of how learning went, and result.json."""
    job, nets = run.job, run.learner.nets
    if min(map(len, _d_and_v(run))) > diagnostics.LAGS:
        report.figure("diagnostics", diagnostics.traces(*_d_and_v(run), job.updates), job.updates)
    report.sync()
    state = {**dataclasses.asdict(spent), "rollbacks": run.rollbacks, "faults": run.faults()}
    run.check_owner()
    found = result(to_json(job), state, metrics, weights.digest(nets))
    Storage.at(job.out).write_json("result.json", found)
    return found


def _classes(run: Rank, report: Report) -> None:
    """Images of each class, a row each, where the recipe draws them."""
    job, nets, data, pool = run.job, run.learner.nets, run.data, run.pool
    count = job.recipe.classes(data.spec)
    if data.spec.kind == "image" and count:
        labels = np.repeat(np.arange(count), 10)  # the columns of a grid
        tasks = samples.of_classes(job.recipe, nets, data, labels, job.updates, job.seed)
        pool.submit(pool.next, tasks, weights.flatten(nets))
        drawn = samples.states(pool.collect(pool.next - 1), "class")
        report.samples("classes", samples.decoded(job.recipe, nets, drawn, job.seed), job.updates)


def _held_out(run: Rank, report: Report) -> dict[str, float]:
    """Metrics of single items: of those held back, or, as `<name>_train`, of as many as samples are drawn."""
    job, nets, pool = run.job, run.learner.nets, run.pool
    data, suffix = (run.data.test, "") if len(run.data.test_rows) else (run.data, "_train")
    n = data.size if not suffix else min(job.samples, data.size)
    if not n:
        return {}
    if tasks := held_out.tasks(job.recipe, nets, data, n, job.updates, job.seed):
        pool.submit(pool.next, tasks, weights.flatten(nets))
    scores = held_out.scores(job.recipe, nets, data, n, pool.collect(pool.next - 1) if tasks else {})
    energies = {name: score for name, score in scores.items() if name.startswith("energy")}
    metrics = {f"{name}{suffix}": float(score.mean()) for name, score in scores.items() if name not in energies}
    if data.spec.kind == "text":
        metrics |= {f"{name}{suffix}": value for name, value in perplexity.nll(job.recipe, nets, data).items()}
    if energies and job.held_out is not None and not suffix:
        anomalous = data.batch(np.arange(n))["label"].numpy() == job.held_out
        for name, energy in energies.items():
            detected = held_out.detection(energy, anomalous)
            metrics |= {f"{what}{name.removeprefix('energy')}": value for what, value in detected.items()}
        metrics["auprc_chance"] = float(anomalous.mean())
        names = {False: "other labels", True: f"label {job.held_out}, never learned from"}
        report.figure("anomaly", held_out.histograms(energies, anomalous, names), job.updates)
        report.sync()
    return metrics


def _drawn(run: Rank, progress: Callable[..., Progress]) -> dict[str, torch.Tensor]:
    """States of the model's chains: fresh ones before and after their steps, lane 0's bank, long ones from data."""
    job, nets, pool, drawn = run.job, run.learner.nets, run.pool, {}
    chain, flat = job.recipe.model, weights.flatten(nets)
    tasks = samples.tasks(job.recipe, nets, run.data, job.samples, job.updates, job.seed)
    pool.submit(pool.next, tasks, flat)
    drawn["start"], drawn["short_run"] = samples.starts(tasks), samples.states(pool.collect(pool.next - 1), chain)
    bank = run.banks[chain].state_dict(run.lanes[0]) if chain in run.banks else {}
    if bank and bank["put_once"].sum() > 1:
        drawn["bank"] = torch.from_numpy(bank["states"][bank["put_once"]][: job.samples])
    if job.long_run:
        tasks = samples.tasks(job.recipe, nets, run.data, job.samples, job.updates, job.seed, from_data=True)
        with closing(progress(total=job.long_run, desc=f"{job.name}, long run", unit="step")) as bar:
            for steps in samples.stretches(job.long_run):
                tasks = samples.stretched(tasks, steps)
                pool.submit(pool.next, tasks, flat)
                answers = pool.collect(pool.next - 1)
                tasks = [task._replace(x=answers[chain, task.lane.index].x) for task in tasks]
                bar.update(steps)
        drawn["long_run"] = samples.starts(tasks)
    return drawn
