"""The loop of one rank: there is no other loop in the project."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainResults, advance
from pipeline.data.dataset import Dataset
from pipeline.errors import Diverged, InputError
from pipeline.evaluation.figures import anomaly_figure
from pipeline.evaluation.metrics.items import detection_metrics, item_metrics
from pipeline.evaluation.metrics.perplexity import sentence_nll
from pipeline.evaluation.metrics.samples import FinalMetrics, judge_samples
from pipeline.nets import weights
from pipeline.runs import lease
from pipeline.runs.counters import Counters
from pipeline.runs.job import Job, load_dataset, to_json
from pipeline.runs.journal import METRICS_FILE, RunJournal, result_content
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import class_tasks, decode_states, draw_tasks, final_states, start_states
from pipeline.sampling.long_chains import stretches, with_steps
from pipeline.sampling.posterior import posterior_tasks
from pipeline.training.collective import gather, world
from pipeline.training.dynamics import LAGS, dynamics_figure, oscillation
from pipeline.training.worker import Worker

GRID_SAMPLES = 100
"""Samples in a grid."""


@runtime_checkable
class ProgressBar(Protocol):
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
    pool: Pool,
    progress: Callable[..., ProgressBar],
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
    own = lease.join(out, command or lease.acquire(out)) if world()[0] == 0 else None
    run = Worker(job, data, device, pool, own, restarts)
    start = run.restore()
    while True:
        try:
            return _attempted(run, start, progress, judged)
        except Diverged as e:
            fault = e.with_traceback(None)  # whose frames would hold on to the networks
        run, start = run.rolled_back(fault)
        if run.rank == 0:
            _set_aside(run, start, fault)


def _attempted(run: Worker, start: int, progress: Callable[..., ProgressBar], judged: bool) -> dict[str, Any] | None:
    """The updates from `start` to the last, as far as they come; rank 0 returns what it wrote to result.json."""
    job = run.job
    if run.rank > 0:
        for update in range(start, job.updates):
            run.step(update)
            run.save_if_due(update + 1)
        run.spent()
        return None
    assert run.lease
    run.check_lease()
    if run.data.statistics:
        Storage.at(job.out).write_json("data.json", run.data.statistics)
    with closing(RunJournal(Storage.at(job.out), start, job.logging.log_every, run.lease)) as report:
        with closing(progress(total=job.updates, desc=job.name, unit="update")) as bar:
            bar.update(start)
            for update in range(start, job.updates):
                metrics, answers = run.step(update)
                _tell(run, report, update, metrics, answers)
                bar.set_description(_line(job, metrics), refresh=False)
                bar.update(1)
                run.save_if_due(update + 1)
        return _finish(run, report, run.spent(), _final(run, report, progress) if judged else {})


def _set_aside(run: Worker, to: int, fault: Diverged) -> None:
    """Keep the lines of the attempt that has failed, and say that it has."""
    out, attempt = Storage.at(run.job.out), run.learner.attempt
    out.write(f"metrics-attempt-{attempt - 1}.jsonl", out.read(METRICS_FILE))
    print(f"{fault}; going on from update {to}, attempt {attempt}", file=sys.stderr)


def _agreed(job: Job[Any]) -> Dataset:
    """The job's data, once every rank has the same, and sees the run folder; a fault of one is raised by all."""
    data, fault = None, ""
    try:
        data = load_dataset(job)
        if not Storage.at(job.out).exists("job.json"):
            fault = f"--out {job.out} is not seen by every machine: there is no job.json for learner {world()[0]}"
    except InputError as e:
        fault = str(e)
    faults = gather((fault, data.key if data else ""))
    for fault, key in faults:
        if fault or key != faults[0][1]:
            raise InputError(fault or f"--data {job.data.source} is not the same on every machine")
    assert data is not None
    return data


def _tell(run: Worker, report: RunJournal, update: int, metrics: Mapping[str, float], answers: ChainResults) -> None:
    job, done = run.job, update + 1
    if update % job.logging.log_every == 0 or done == job.updates:
        report.log(update, {**metrics, **{f"faults/{name}": n for name, n in run.faults().items() if n}})
    if run.due(done):
        run.check_lease()
        for (chain, lane), answer in answers.items():
            if lane == 0:
                report.histogram(f"{chain}/energy", torch.tensor(answer.energy), update)
                report.histogram(f"{chain}/grad_norm", torch.tensor(answer.grad_norm), update)
        for name, value in oscillation(*_d_and_v(run)).items():
            report.scalar(f"diagnostics/{name}", value, update)
        if run.data.spec.kind == "image":
            report.samples(f"update-{done:08d}", _shown(run, answers, done), update)
        if run.data.spec.kind == "text":
            report.text(f"update-{done:08d}", run.data.sentences(_shown(run, answers, done)), update)
        report.sync()  # before the checkpoint, so that what a resumed run keeps of the lines is all there


def _shown(run: Worker, answers: ChainResults, done: int) -> torch.Tensor:
    """What the model's chains of this update stand for; where learning runs none, some are run for it."""
    recipe, nets, seed = run.job.recipe, run.learner.nets, run.job.seed
    if recipe.sample_chain in recipe.chains:
        return decode_states(recipe, nets, final_states(answers, recipe.sample_chain)[:GRID_SAMPLES], seed)
    tasks = draw_tasks(recipe, nets, run.data, GRID_SAMPLES, done, seed)
    moved = {(task.chain, task.lane.index): advance(recipe, nets, task) for task in tasks}
    return decode_states(recipe, nets, final_states(moved, recipe.sample_chain), seed)


def _d_and_v(run: Worker) -> tuple[list[float], list[float]]:
    """What was seen of both, up to now, of the model's chains; empty for recipes that run none."""
    recipe, history = run.job.recipe, run.monitor.history
    chain = "chains" if len(recipe.chains) == 1 else f"chains/{recipe.sample_chain}"
    return history.get("energy/gap", []), history.get(f"{chain}/grad_norm", [])


def _line(job: Job[Any], metrics: Mapping[str, float]) -> str:
    shown = [
        f"{name.rpartition('/')[2]} {metrics[name]:+.3f}"
        for name in (
            "energy/gap",
            "chains/grad_norm",
            "value",
            "discriminator_accuracy",
            "mse",
            "bits_per_dim",
            "nats",
            "accuracy",
        )
        if name in metrics
    ]
    attempt = [f"attempt {metrics['attempt']:.0f}"] if metrics["attempt"] else []
    return ", ".join([job.name, *attempt, *shown])


def _final(run: Worker, report: RunJournal, progress: Callable[..., ProgressBar]) -> dict[str, float]:
    """Final samples and metrics."""
    job, nets, data = run.job, run.learner.nets, run.data
    verdict = FinalMetrics({}, None)
    if job.evaluation.eval_samples:
        states = _drawn(run, progress)
        drawn = {name: decode_states(job.recipe, nets, x, job.seed) for name, x in states.items()}
        sampler = job.recipe.sampler(job.recipe.sample_chain, nets, job.updates)
        verdict = judge_samples(job.recipe, nets, data, drawn, sampler.temperature)
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


def _finish(run: Worker, report: RunJournal, spent: Counters, metrics: Mapping[str, float]) -> dict[str, Any]:
    """The figure of how learning went, and result.json."""
    job, nets = run.job, run.learner.nets
    if min(map(len, _d_and_v(run))) > LAGS:
        report.figure("diagnostics", dynamics_figure(*_d_and_v(run), job.updates), job.updates)
    report.sync()
    state = {**dataclasses.asdict(spent), "rollbacks": run.rollbacks, "faults": run.faults()}
    run.check_lease()
    found = result_content(to_json(job), state, metrics, weights.digest(nets))
    Storage.at(job.out).write_json("result.json", found)
    return found


def _classes(run: Worker, report: RunJournal) -> None:
    """Images of each class, a row each, where the recipe draws them."""
    job, nets, data, pool = run.job, run.learner.nets, run.data, run.pool
    count = job.recipe.num_classes(data.spec)
    if data.spec.kind == "image" and count:
        labels = np.repeat(np.arange(count), 10)  # the columns of a grid
        tasks = class_tasks(job.recipe, nets, data, labels, job.updates, job.seed)
        pool.submit(pool.next, tasks, weights.flatten(nets))
        drawn = final_states(pool.collect(pool.next - 1), "class")
        report.samples("classes", decode_states(job.recipe, nets, drawn, job.seed), job.updates)


def _held_out(run: Worker, report: RunJournal) -> dict[str, float]:
    """Metrics of single items: of those held back, or, as `<name>_train`, of as many as samples are drawn."""
    job, nets, pool = run.job, run.learner.nets, run.pool
    data, suffix = (run.data.test, "") if len(run.data.test_rows) else (run.data, "_train")
    n = data.size if not suffix else min(job.evaluation.eval_samples, data.size)
    if not n:
        return {}
    if tasks := posterior_tasks(job.recipe, nets, data, n, job.updates, job.seed):
        pool.submit(pool.next, tasks, weights.flatten(nets))
    scores = item_metrics(job.recipe, nets, data, n, pool.collect(pool.next - 1) if tasks else {})
    energies = {name: score for name, score in scores.items() if name.startswith("energy")}
    metrics = {f"{name}{suffix}": float(score.mean()) for name, score in scores.items() if name not in energies}
    if data.spec.kind == "text":
        metrics |= {f"{name}{suffix}": value for name, value in sentence_nll(job.recipe, nets, data).items()}
    if energies and job.data.held_out_class is not None and not suffix:
        anomalous = data.batch(np.arange(n))["label"].numpy() == job.data.held_out_class
        for name, energy in energies.items():
            detected = detection_metrics(energy, anomalous)
            metrics |= {f"{what}{name.removeprefix('energy')}": value for what, value in detected.items()}
        metrics["auprc_chance"] = float(anomalous.mean())
        names = {False: "other labels", True: f"label {job.data.held_out_class}, never learned from"}
        report.figure("anomaly", anomaly_figure(energies, anomalous, names), job.updates)
        report.sync()
    return metrics


def _drawn(run: Worker, progress: Callable[..., ProgressBar]) -> dict[str, torch.Tensor]:
    """States of the model's chains: fresh ones before and after their steps, lane 0's bank, long ones from data."""
    job, nets, pool, drawn = run.job, run.learner.nets, run.pool, {}
    chain, flat = job.recipe.sample_chain, weights.flatten(nets)
    tasks = draw_tasks(job.recipe, nets, run.data, job.evaluation.eval_samples, job.updates, job.seed)
    pool.submit(pool.next, tasks, flat)
    drawn["start"], drawn["short_run"] = start_states(tasks), final_states(pool.collect(pool.next - 1), chain)
    bank = run.banks[chain].state_dict(run.lanes[0]) if chain in run.banks else {}
    if bank and bank["put_once"].sum() > 1:
        drawn["bank"] = torch.from_numpy(bank["states"][bank["put_once"]][: job.evaluation.eval_samples])
    if job.evaluation.eval_long_run_steps:
        tasks = draw_tasks(job.recipe, nets, run.data, job.evaluation.eval_samples, job.updates, job.seed, "data")
        with closing(
            progress(total=job.evaluation.eval_long_run_steps, desc=f"{job.name}, long run", unit="step")
        ) as bar:
            for steps in stretches(job.evaluation.eval_long_run_steps):
                tasks = with_steps(tasks, steps)
                pool.submit(pool.next, tasks, flat)
                answers = pool.collect(pool.next - 1)
                tasks = [task._replace(x=answers[chain, task.lane.index].x) for task in tasks]
                bar.update(steps)
        drawn["long_run"] = start_states(tasks)
    return drawn
