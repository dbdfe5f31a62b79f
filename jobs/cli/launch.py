"""From a command line to a run: what every job's command does."""

import dataclasses
import math
import shlex
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from jobs.cli.parsing import parse, run_command
from pipeline.batch import Spec
from pipeline.chains.local_pool import LocalPool
from pipeline.data.sources import resolve_source
from pipeline.errors import Diverged, InputError, RunWriteError
from pipeline.evaluation.convergence import observer
from pipeline.process import configure_process
from pipeline.recipe import init_networks
from pipeline.runs import lease
from pipeline.runs.job import Job, check_job, from_json, load_dataset, override, to_json
from pipeline.runs.journal import provenance
from pipeline.runs.storage import PART_SUFFIX, Storage
from pipeline.run import run
from pipeline.training.pretrained import check_pretrained


def experiment(job: str, presets: Mapping[str, Job[Any]], description: str) -> None:
    """The command `python -m jobs.<job> [preset] [flags]`; without a preset it is the first one."""
    run_command(partial(_experiment, job, presets, description))


def _experiment(job: str, presets: Mapping[str, Job[Any]], description: str) -> None:
    args, prog, names = sys.argv[1:], f"python -m jobs.{job}", ", ".join(presets)
    preset = next(iter(presets))
    if args and not args[0].startswith("-"):
        preset = args.pop(0)
    if preset not in presets:
        raise InputError(f"preset {preset}: there are {names}")
    about = f"{description}\n\nPresets: {names}. Shown here: {preset}."
    kind: Any = Job[type(presets[preset].recipe)]  # type: ignore[misc]  # whose fields are the flags
    chosen: Job[Any] = parse(kind, args, f"{prog} {preset}", about, presets[preset])
    start_run(chosen)


def start_run(job: Job[Any]) -> None:
    """Check a job, make its run folder, run it, and say what came of it."""
    check_job(job)
    spec = load_dataset(job).spec
    job = check_pretrained(job, init_networks(job.recipe, spec, job.seed, torch.device("cpu")))
    out = job.out or f"runs/{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    storage = Storage.at(out)
    if storage.check_exists() and storage.names() != [
        f"job.json{PART_SUFFIX}"
    ]:  # of a command that died before there was a run
        raise InputError(
            f"--out {out} exists: a run is never overwritten; go on with it by python -m jobs.resume {out}"
        )
    job = override(job, out=storage.path if storage.local else out, source=resolve_source(job.data.source))
    run_job(job, spec)


def run_job(job: Job[Any], spec: Spec) -> None:
    """Run a checked job in its folder, new or not, with Ray or without."""
    began, where = time.perf_counter(), pick_device(job.resources.device)
    if job.resources.observers:
        observer.check_observable(job, spec)
    if job.resources.learners or job.resources.actors or job.resources.observers:
        from pipeline.distributed import cluster  # here: a run without Ray does not import it
        from pipeline.distributed import train as distributed

        with cluster.connected():
            cluster.wait_for_resources(job)
            try:
                found = distributed.run_on_ray(job, spec, where, _record(job))
            except Diverged:
                _observed(job)
                raise
    else:
        command = _record(job)
        configure_process(job.resources.threads)
        nets = init_networks(job.recipe, spec, job.seed, where)
        found = run(job, where, LocalPool(job.recipe, nets), partial(tqdm, mininterval=1.0), command) or {}
    _conclude(job, found, time.perf_counter() - began)


def load_run(run: str) -> Job[Any]:
    """The job of a run folder, wherever the folder lies now. Raises BadInput where there is none."""
    storage = Storage.at(run)
    if not storage.check_exists("job.json"):
        raise InputError(f"there is no run at {run}: no job.json")
    try:
        settings = storage.read_json("job.json")
    except ValueError as e:
        raise InputError(f"{run}/job.json is not JSON: {e}") from e
    return dataclasses.replace(from_json(settings), out=storage.path if storage.local else run)


def pick_device(asked: str) -> torch.device:
    """Of this process, as --device says."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no GPU that torch can use")
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(auto if asked == "auto" else asked)


def _record(job: Job[Any]) -> str:
    """Write job.json, and take the run over from whoever worked on it; what names this command to its learners."""
    out = Storage.at(job.out)
    try:
        out.write_json("job.json", {**to_json(job), "provenance": provenance()})
        return lease.acquire(out)
    except RunWriteError as e:
        raise InputError(f"--out {e}") from e


def _observed(job: Job[Any]) -> None:
    """Say what the run's observers have found."""
    if job.resources.observers and (rows := observer.read_rows(Storage.at(job.out))):
        print(f"{'verdict':24} {observer.verdict_line(rows[-1])}")


def _conclude(job: Job[Any], found: Mapping[str, Any], seconds: float) -> None:
    if job.evaluation.eval_samples and not found["metrics"]:
        print("no final metrics: they need images with labels, text, or a known density")
    if found["metrics"].get("frechet", 0) > found["metrics"].get("frechet_start", math.inf):
        print("warning: the samples are further from the data than the noise they start from", file=sys.stderr)
    for name, value in found["metrics"].items():
        print(f"{name:24} {value:.4g}")
    print(f"{'wall time':24} {seconds:.0f} s here, {found['wall_seconds']:.0f} s of learning in all")
    print(f"{'gradient evaluations':24} {found['gradient_evaluations']:,}")
    if job.max_staleness:
        print(f"{'drift waits':24} {found['staleness_waits']} of {found['updates']} updates waited for fresh chains")
    _observed(job)
    for name, count in found["faults"].items():
        if count:
            print(f"{name.replace('_', ' '):24} {count}")
    if found["rollbacks"]:
        print(f"{'rollbacks':24} {found['rollbacks']}")
    print(f"{'weights':24} sha256 {found['weights_sha256']}")
    storage = Storage.at(job.out)
    for folder in ("samples", "figures"):
        for name in [n for n in (storage / folder).names() if not n.startswith("update-")]:
            print(f"{folder:24} {job.out}/{folder}/{name}")
    print(f"{'run folder':24} {job.out}")
    print(f"{'curves and pictures':24} {sys.executable} -m tensorboard.main --logdir {shlex.quote(job.out)}")
