"""Starting and continuing runs, and what a command prints when a run ends."""

import math
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from jobs.cli.begin import check_same, is_begun
from jobs.cli.first_stage import (
    awaits_first_stage,
    begin_first_stage,
    flow_folder,
    resolve_first_stage,
    unfinished_first_stage,
)
from pipeline import stop
from pipeline.batch import Spec
from pipeline.chains.local_pool import LocalPool
from pipeline.data.sources import resolve_source
from pipeline.errors import Diverged, InputError, RunWriteError
from pipeline.evaluation.convergence import observer
from pipeline.evaluation.convergence.verdict import verdict_line
from pipeline.evaluation.plan import missing_metrics
from pipeline.process import configure_process, pick_device
from pipeline.progress import TerminalBar, doing
from pipeline.recipe import init_networks
from pipeline.recipes.flow import MaximumLikelihoodFlow
from pipeline.run import run
from pipeline.runs import checkpoint, lease
from pipeline.runs.job import Job, check_job, load_dataset, override
from pipeline.runs.job_json import check_identity, has_finished, load_run, to_json
from pipeline.runs.journal import provenance
from pipeline.runs.storage import Storage
from pipeline.schedule import check_changes
from pipeline.training.pretrained import check_pretrained


def start_run(job: Job[Any], resume_if_exists: bool = False, flow: Job[MaximumLikelihoodFlow] | None = None) -> None:
    """Check a job, make its run folder, run it, and print the results.

    Args:
        job: with an empty `out` for a new folder in runs/.
        resume_if_exists: whether a run of the same settings in that folder continues; one that has finished says so.
        flow: how the flow that it starts with is trained first; None: it starts with what `init_from` says.

    Raises:
        InputError: settings, data or machines do not fit; nothing is written then.
        RunError: as `pipeline.run.run` does.
    """
    check_job(job)
    if not job.name:
        raise InputError("must not be empty: it becomes part of a folder's name", "name", "''")
    with doing(f"reading {job.data.source}"):
        spec = load_dataset(job).spec
    check_changes(job.recipe, job.changes, spec)
    checked = job if flow else check_pretrained(job, spec)
    out = job.out or f"runs/{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    storage = Storage.at(out)
    places = {"out": storage.uri, "source": resolve_source(job.data.source)}
    if is_begun(storage, "run", out, resume_if_exists):
        places |= {"init_from": flow_folder(storage).uri} if flow else {}
        check_same(override(job, **places), own := load_run(out, sys.modules))
        if has_finished(storage):
            print(f"{storage} has finished: {own.updates} updates; see its result.json")
            return None
        return continue_run(override(own, minutes=job.resources.minutes))
    job = override(checked, **places)
    if flow:
        job = begin_first_stage(job, flow)
        _write_job(job)
    run_job(finish_first_stage(job, spec), spec)


def continue_run(job: Job[Any]) -> None:
    """Continue a run from its newest whole checkpoint, and print the results.

    Raises:
        InputError: settings, data, checkpoint or machines do not fit.
    """
    check_job(job)
    with doing(f"reading {job.data.source}"):
        data = load_dataset(job)
    if awaits_first_stage(job):
        return run_job(finish_first_stage(job, data.spec), data.spec)
    with doing(f"reading the checkpoint of {Storage.at(job.out)}"):
        update = _find_checkpoint(job, data.fingerprint)
    print(f"continuing {Storage.at(job.out)} from update {update} to {job.updates}", file=sys.stderr)
    run_job(job, data.spec)


def _find_checkpoint(job: Job[Any], fingerprint: str) -> int:
    """The update that the run continues from. Raises InputError where its checkpoint does not fit."""
    checkpoints, update = Storage.at(job.out) / "checkpoints", 0
    newest = checkpoint.newest_name(checkpoints)
    if newest:
        state = checkpoint.read_state(checkpoints / newest)
        check_identity(job, fingerprint, state, str(checkpoints / newest))
        update = state["update"]
    if update > job.updates:
        raise InputError(f"the run has made {update} already", "updates", job.updates)
    if torn := [name for name in checkpoints.names() if name > (newest or "")]:
        print(f"ignoring incomplete checkpoints: {', '.join(torn)}", file=sys.stderr)
    if not newest:
        print("warning: there is no checkpoint, so the run starts from the beginning", file=sys.stderr)
    return update


def finish_first_stage(job: Job[Any], spec: Spec) -> Job[Any]:
    """Run the first stage that a job may have, unless it is finished; the job with the checkpoint to start with."""
    if stage := unfinished_first_stage(job):
        print(f"first stage: {stage.name}, in {Storage.at(stage.out)}", file=sys.stderr)
        run_job(stage, spec, job.out)
        print(f"second stage: {job.name}, in {Storage.at(job.out)}", file=sys.stderr)
    return resolve_first_stage(job, spec)


def run_job(job: Job[Any], spec: Spec, resumes: str = "") -> None:
    """Run a checked job in its folder, new or not, with Ray or without, and print the results.

    Args:
        job: whose first stage, if it has one, is finished.
        spec: of its data.
        resumes: the folder that goes on where it stops; empty: its own.
    """
    began, device = time.perf_counter(), pick_device(job.resources.device, job.resources.on_ray)
    if job.resources.observers:
        observer.check_observable(job, spec)
    if job.resources.on_ray:
        result = _run_on_ray(job, spec, device, resumes)
    else:
        command = _record(job)
        configure_process(job.resources.threads, job.resources.deterministic)
        pool = LocalPool(job.recipe, init_networks(job.recipe, spec, job.seed, device))
        with _continuing(job, resumes):
            result = run(job, device, pool, TerminalBar, command) or {}
    _print_result(job, result, time.perf_counter() - began)


def _continuing(job: Job[Any], resumes: str) -> AbstractContextManager[None]:
    """Name the command that continues the run, for the line that is written where it stops."""
    module, checkpoints = type(job.recipe).__module__, Storage.at(job.out) / "checkpoints"
    own = [] if module.startswith("pipeline.recipes.") else ["--recipe-module", module]

    def describe() -> str:
        name = checkpoint.newest_name(checkpoints)
        at = f"at update {checkpoint.update_of(name)} of {job.updates}" if name else "before the first update"
        at = f"in the first stage, {at}" if resumes else at
        return at if name is None or checkpoint.update_of(name) < job.updates else f"{at}, in the final evaluation"

    return stop.continuing([sys.executable, "-m", "jobs.resume", resumes or job.out, *own], describe)


def _run_on_ray(job: Job[Any], spec: Spec, device: torch.device, resumes: str) -> dict[str, Any]:
    from pipeline.distributed import cluster  # here: a run without Ray does not import it
    from pipeline.distributed.train import run_on_ray

    with cluster.connected():
        cluster.wait_for_resources(job)
        command = _record(job)
        try:
            with _continuing(job, resumes):
                return run_on_ray(job, spec, device, command)
        except Diverged:
            _print_verdict(job)
            raise


def _record(job: Job[Any]) -> str:
    """Write job.json, acquire the run's lease, and say what was read; returns the command's name for its learners."""
    _write_job(job)
    try:
        command = lease.acquire(Storage.at(job.out))
    except RunWriteError as e:
        raise InputError(str(e)) from e
    for line in load_dataset(job).describe():
        print(f"{'data':24} {line}", file=sys.stderr)
    return command


def _write_job(job: Job[Any]) -> None:
    try:
        Storage.at(job.out).write_json("job.json", {**to_json(job), "provenance": provenance()})
    except RunWriteError as e:
        raise InputError(str(e)) from e


def _print_result(job: Job[Any], result: Mapping[str, Any], seconds: float) -> None:
    """What came of a run, and where it is."""
    metrics = {name: one["value"] for name, one in result["metrics"].items()}
    if (n := job.evaluation.eval_samples) and job.recipe.samples_are_data:
        for line in missing_metrics(load_dataset(job), n):
            print(line)
    if metrics.get("frechet", 0) > metrics.get("frechet_start", math.inf):
        print("warning: the samples are further from the data than the noise they start from", file=sys.stderr)
    for name, value in metrics.items():
        _print_row(name, f"{value:.4g}")
    _print_row("wall time", f"{seconds:.0f} s for this command, {result['wall_seconds']:.0f} s for the run")
    _print_row("gradient evaluations", f"{result['gradient_evaluations']:,}")
    if job.max_staleness:
        _print_row("staleness", f"{result['staleness_waits']} of {result['updates']} updates waited for fresh chains")
    _print_verdict(job)
    for name, count in result["faults"].items():
        if count:
            _print_row(name.replace("_", " "), count)
    if result["rollbacks"]:
        _print_row("rollbacks", len(result["rollbacks"]))
    _print_row("weights", f"sha256 {result['weights_sha256']}")
    storage = Storage.at(job.out)
    for folder in ("samples", "figures"):
        for name in (storage / folder).names():
            if not name.startswith("update-"):
                _print_row(folder, storage / folder / name)
    _print_row("run folder", storage)
    if storage.local:  # TensorBoard reads object stores by packages and URIs of its own
        _print_row("curves and pictures", f"{sys.executable} -m tensorboard.main --logdir {shlex.quote(job.out)}")


def _print_verdict(job: Job[Any]) -> None:
    """The newest verdict of the run's observers."""
    if job.resources.observers and (rows := observer.read_rows(Storage.at(job.out))):
        _print_row("verdict", verdict_line(rows[-1]))


def _print_row(name: str, value: object) -> None:
    print(f"{name:24} {value}")
