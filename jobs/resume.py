"""Go on with a run from its newest whole checkpoint, or with a search (jobs.search), as it was begun.

Of a run, only its length, the machines it uses, what it logs and what is done about divergence can be set anew.
"""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jobs import search
from jobs.cli.launch import load_run, run_job
from jobs.cli.parsing import parse, run_command
from pipeline.errors import InputError
from pipeline.runs import checkpoint
from pipeline.runs.job import Range, check_identity, check_job, load_dataset
from pipeline.runs.storage import Storage


@dataclass(frozen=True)
class Resume:
    """Where no value is given, the run keeps its own."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run or search."""
    updates: int | None = None
    """Updates of the weights, in all."""
    learners: int | Range | None = None
    """Ray Train workers; 0: learn in this process. least:most, as many as there is room for."""
    actors: int | None = None
    """Ray actors that move chains; 0: chains move where the learner is."""
    threads: int | None = None
    """CPU threads of each process."""
    device: Literal["auto", "cpu", "cuda"] | None = None
    """Of a process that Ray gave no GPU to."""
    cpus_per_learner: float | None = None
    """CPUs that Ray sets aside for a learner."""
    cpus_per_actor: float | None = None
    """CPUs that Ray sets aside for an actor."""
    gpus_per_learner: float | None = None
    """GPUs that Ray sets aside for a learner."""
    gpus_per_actor: float | None = None
    """GPUs that Ray sets aside for an actor."""
    observers: int | None = None
    """Ray actors of low priority that say whether the run converges; 0: none."""
    cpus_per_observer: float | None = None
    """CPUs that Ray sets aside for an observer; 0: it takes the time that others leave."""
    gpus_per_observer: float | None = None
    """GPUs that Ray sets aside for an observer."""
    wait_for_resources: float | None = None
    """Seconds to wait for a cluster that has not yet the CPUs and GPUs asked for."""
    on_divergence: Literal["stop", "rollback"] | None = None
    """What a diverged run does: stop, or go back to its last healthy checkpoint with other random numbers."""
    patience: int | None = None
    """Updates in a row far from the run's history that are divergence; 0: only a number that is not finite is."""
    rollbacks: int | None = None
    """Rollbacks after which a diverged run stops all the same."""
    rollback_lr_factor: float | None = None
    """Factor of all learning rates after each rollback."""
    checkpoint_every: int | None = None
    """Updates between checkpoints and sample grids."""
    keep_checkpoints: int | None = None
    """Checkpoints that stay: the newest ones."""
    log_every: int | None = None
    """Updates between lines of metrics.jsonl and points in TensorBoard."""
    eval_samples: int | None = None
    """Samples that the final metrics are taken on; 0: no final metrics."""
    eval_long_run_steps: int | None = None
    """Steps of chains from data for the final metrics, which tell whether learning converged; 0: none."""


def main() -> None:
    """The command."""
    asked = parse(Resume, sys.argv[1:], "python -m jobs.resume", __doc__ or "")
    changes = {k: v for k, v in dataclasses.asdict(asked).items() if k != "run" and v is not None}
    if Storage.at(asked.run).check_exists(search.PLAN):
        if changes:
            raise InputError(
                f"--{next(iter(changes)).replace('_', '-')}: a search goes on as it was begun, without flags"
            )
        return search.resume(asked.run)
    job = dataclasses.replace(load_run(asked.run), **changes)
    check_job(job)
    checkpoints = Storage.at(job.out) / "checkpoints"
    newest, data, done = checkpoint.newest_name(checkpoints), load_dataset(job), 0
    if newest:
        state = checkpoint.read_state(checkpoints / newest)
        check_identity(job, data.fingerprint, state["identity"], f"{job.out}/checkpoints/{newest}")
        done = state["update"]
    if done > job.updates:
        raise InputError(f"--updates {job.updates}: the run has made {done} already")
    torn = [name for name in checkpoints.names() if name > (newest or "")]
    if torn:
        print(f"passing over what is no whole checkpoint: {', '.join(torn)}", file=sys.stderr)
    if not newest:
        print("warning: there is no checkpoint, so the run starts anew", file=sys.stderr)
    print(f"going on with {job.out} from update {done} to {job.updates}", file=sys.stderr)
    run_job(job, data.spec)


if __name__ == "__main__":
    run_command(main)
