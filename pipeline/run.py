"""A whole run: training, then the final evaluation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from pipeline import stop
from pipeline.chains.local_pool import Pool
from pipeline.errors import Stopped
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.evaluation.options import EvaluationOptions
from pipeline.evaluation.plan import default_groups
from pipeline.evaluation.protocol import to_json as measurements_to_json
from pipeline.nets.weights import digest
from pipeline.progress import ProgressBar
from pipeline.runs.job import Job
from pipeline.runs.job_json import flatten, to_json
from pipeline.runs.journal import RunJournal
from pipeline.runs.snapshot import Snapshot, newest_snapshot
from pipeline.runs.storage import Storage
from pipeline.training.dynamics import LAGS, gap_and_grad_norm
from pipeline.training.loop import train
from pipeline.training.result import describe_run
from pipeline.training.worker import Worker


def run(
    job: Job[Any],
    device: torch.device,
    pool: Pool,
    progress: Callable[..., ProgressBar],
    command: str = "",
    restart_count: Callable[[], int] = lambda: 0,
    evaluates: bool = True,
    requested: Callable[[], str] = stop.requested,
    evaluation_pool: Pool | None = None,
) -> dict[str, Any] | None:
    """Train a job on this rank, then evaluate it; rank 0 returns the content of result.json.

    Args:
        job: with job.json in its folder.
        device: of the learner.
        pool: moves the chains.
        progress: makes progress bars.
        command: the id from `lease.acquire`; empty: this call is the command.
        restart_count: how often the command's actors have been restarted so far.
        evaluates: whether there is a final evaluation.
        requested: why the run should stop; empty as long as it should not.
        evaluation_pool: moves the chains of the evaluation, which rank 0 makes alone; None: `pool`.

    Raises:
        Stopped, Diverged, InputError, TaskTimeout, RunWriteError, LeaseLost: as `training.loop.train` does.
    """

    def finish(worker: Worker, journal: RunJournal) -> dict[str, Any]:
        evaluation = Evaluation()
        if evaluates and job.evaluation.eval_samples:
            bars = partial(InterruptibleBar, progress, requested)
            evaluation = final_evaluation(newest_snapshot(job, device), evaluation_pool or pool, bars)
        if evaluates:  # a search writes its own, of the settings that differ
            journal.hparams(_hparams(job), {f"final/{one.name}": one.value for one in evaluation.measurements})
        return _write_result(worker, journal, evaluation)

    return train(job, device, pool, progress, finish, command, restart_count, requested)


class InterruptibleBar:
    """A progress bar of work that may be interrupted anywhere: it raises Stopped where the work should stop."""

    def __init__(self, progress: Callable[..., ProgressBar], requested: Callable[[], str], **settings: Any):
        self.bar, self.requested = progress(**settings), requested

    def update(self, n: int = 1) -> None:
        """Advance by n units."""
        self.bar.update(n)
        if reason := self.requested():
            raise Stopped(reason)

    def set_description(self, desc: str, refresh: bool = True) -> None:
        """Set the text before the bar."""
        self.bar.set_description(desc, refresh)

    def close(self) -> None:
        """Stop drawing it."""
        self.bar.close()


def final_evaluation(snapshot: Snapshot, pool: Pool, progress: Callable[..., ProgressBar] | None = None) -> Evaluation:
    """The evaluation at the end of a run; `jobs.evaluate` with the same options gives the same numbers."""
    settings, steps = snapshot.job.evaluation, snapshot.job.evaluation.eval_long_run_steps
    options = EvaluationOptions(n=settings.eval_samples)
    if steps:
        multiple = steps / max(snapshot.sampler.steps, 1)
        options = EvaluationOptions(n=settings.eval_samples, starts=("data",), multiples=(multiple,))
    groups = default_groups(snapshot, steps)
    return evaluate(snapshot, pool, groups, options, progress=progress) if groups else Evaluation()


def _hparams(job: Job[Any]) -> dict[str, bool | str | float]:
    """The settings that the numbers of a run depend on, as TensorBoard takes them; nested ones as `langevin/steps`."""
    settings = to_json(job)
    own = {
        name: settings[name]
        for name in ("updates", "lanes", "lag", "max_staleness", "seed", "precision", "weights_dtype", "init_from")
    }
    own |= {"changes": " ".join(map(str, job.changes))} if job.changes else {}
    flat = flatten({**settings["recipe"], **settings["data"], **own}, "/")
    return {name: value if isinstance(value, bool | int | float) else str(value) for name, value in flat.items()}


def _write_result(worker: Worker, journal: RunJournal, evaluation: Evaluation) -> dict[str, Any]:
    """Log the evaluation, and write result.json."""
    from pipeline.evaluation import figures

    job, out = worker.job, Storage.at(worker.job.out)
    for one in evaluation.measurements:
        journal.scalar(f"final/{one.name}", one.value, job.updates)
    for name, (x, _) in evaluation.images.items():
        journal.samples("final" if name == "samples" else name, x, job.updates)
    for name, sentences in evaluation.sentences.items():
        journal.text("final" if name == "samples" else name, sentences, job.updates)
    for name, draw in evaluation.figures.items():
        journal.figure(name, draw(), job.updates)
    gap, grad_norm = gap_and_grad_norm(job.recipe, worker.monitor.history)
    if min(len(gap), len(grad_norm)) > LAGS:
        journal.figure("dynamics", figures.dynamics_figure(gap, grad_norm, job.updates), job.updates)
    journal.sync()
    result = _result(worker, evaluation)
    worker.check_lease()
    out.write_json("result.json", result)
    return result


def _result(worker: Worker, evaluation: Evaluation) -> dict[str, Any]:
    digests = {"weights_sha256": digest(worker.learner.nets)}
    return {**describe_run(worker), **digests, **measurements_to_json(evaluation.measurements)}
