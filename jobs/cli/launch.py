"""Starting and continuing runs, and what a command prints when a run ends."""

import math
import shlex
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from pipeline.batch import Spec
from pipeline.chains.local_pool import LocalPool
from pipeline.data.sources import resolve_source
from pipeline.errors import Diverged, InputError, RunWriteError
from pipeline.evaluation.convergence import observer
from pipeline.evaluation.plan import missing_metrics
from pipeline.process import configure_process, pick_device
from pipeline.recipe import init_networks
from pipeline.run import run
from pipeline.runs import lease
from pipeline.runs.job import Job, check_job, load_dataset, override
from pipeline.runs.job_json import to_json
from pipeline.runs.journal import provenance
from pipeline.runs.storage import PART_SUFFIX, Storage
from pipeline.training.pretrained import check_pretrained


def start_run(job: Job[Any]) -> None:
    """Check a job, make its run folder, run it, and print the results.

    Raises:
        InputError: settings, data or machines do not fit; nothing is written then.
        RunError: as `pipeline.run.run` does.
    """
    check_job(job)
    if not job.name:
        raise InputError("must not be empty: it becomes part of a folder's name", "name", "''")
    spec = load_dataset(job).spec
    job = check_pretrained(job, init_networks(job.recipe, spec, job.seed, torch.device("cpu")))
    out = job.out or f"runs/{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    storage = Storage.at(out)
    started = f"job.json{PART_SUFFIX}"  # all that a command leaves which dies before there is a run
    if storage.check_exists() and storage.names() != [started]:
        raise InputError(f"exists: a run is never overwritten; continue it with jobs.resume {out}", "out", out)
    job = override(job, out=storage.path if storage.local else out, source=resolve_source(job.data.source))
    run_job(job, spec)


def run_job(job: Job[Any], spec: Spec) -> None:
    """Run a checked job in its folder, new or not, with Ray or without, and print the results."""
    began, device = time.perf_counter(), pick_device(job.resources.device)
    if job.resources.observers:
        observer.check_observable(job, spec)
    if job.resources.learners or job.resources.actors or job.resources.observers:
        result = _run_on_ray(job, spec, device)
    else:
        command = _record(job)
        configure_process(job.resources.threads)
        pool = LocalPool(job.recipe, init_networks(job.recipe, spec, job.seed, device))
        result = run(job, device, pool, partial(tqdm, mininterval=1.0), command) or {}
    _print_result(job, result, time.perf_counter() - began)


def _run_on_ray(job: Job[Any], spec: Spec, device: torch.device) -> dict[str, Any]:
    from pipeline.distributed import cluster  # here: a run without Ray does not import it
    from pipeline.distributed.train import run_on_ray

    with cluster.connected():
        cluster.wait_for_resources(job)
        try:
            return run_on_ray(job, spec, device, _record(job))
        except Diverged:
            _print_verdict(job)
            raise


def _record(job: Job[Any]) -> str:
    """Write job.json, acquire the run's lease, and say what was read; returns the command's name for its learners."""
    out = Storage.at(job.out)
    try:
        out.write_json("job.json", {**to_json(job), "provenance": provenance()})
        command = lease.acquire(out)
    except RunWriteError as e:
        raise InputError(str(e)) from e
    for line in load_dataset(job).describe():
        print(f"{'data':24} {line}", file=sys.stderr)
    return command


def _print_result(job: Job[Any], result: Mapping[str, Any], seconds: float) -> None:
    """What came of a run, and where it is."""
    metrics = {name: one["value"] for name, one in result["metrics"].items()}
    if n := job.evaluation.eval_samples:
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
                _print_row(folder, f"{job.out}/{folder}/{name}")
    _print_row("run folder", job.out)
    _print_row("curves and pictures", f"{sys.executable} -m tensorboard.main --logdir {shlex.quote(job.out)}")


def _print_verdict(job: Job[Any]) -> None:
    """The newest verdict of the run's observers."""
    if job.resources.observers and (rows := observer.read_rows(Storage.at(job.out))):
        _print_row("verdict", observer.verdict_line(rows[-1]))


def _print_row(name: str, value: object) -> None:
    print(f"{name:24} {value}")
