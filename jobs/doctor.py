"""Look at a cluster, and say what is wrong with it and what to do.

It looks at the cluster that RAY_ADDRESS names, or at this machine alone: whether Ray answers, which nodes are alive,
whether all have the same versions, clocks and folder, reach each other, and compute alike. One line a check: ok, warn
or fail. The exit code is 1 if one failed. Every check ends in time, whatever hangs.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.cli.command import run_command
from jobs.cli.parsing import parse
from pipeline.batch import Spec
from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainTask
from pipeline.errors import RunError
from pipeline.recipes.short_run import ShortRun
from pipeline.runs.uri import without_secrets
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, Positive, Settings

if TYPE_CHECKING:
    from pipeline.distributed.doctor import Finding

QUESTIONS, GRACE_SECONDS = 3, 10.0
"""How many answers a check may wait for, and how long it may take beyond them."""
TOKEN = "set RAY_AUTH_MODE=token, and copy the head's token (`ray get-auth-token`) to the file RAY_AUTH_TOKEN_PATH"
REFUSED = "failed to connect to ray cluster"
"""What Ray says where the port is open, but the token is another one."""
ADDRESS = "start the head (`ray start --head`), join this machine to it, and set RAY_ADDRESS=HEAD:6379"
ENVIRONMENT = "activate the environment that Ray was started in"
RECIPE = ShortRun(langevin=Langevin(steps=5, drift=1.0, noise=0.01), width=4)
SPEC = Spec("image", (1, 8, 8), 10)
"""The chain task's recipe, and the data that it would be for."""


@dataclass(frozen=True, kw_only=True)
class Doctor(Settings):
    """What is looked at."""

    out: str = ""
    """A folder that every node should see, as the --out of runs: a path, s3:// or gs://."""
    nodes: Count = 0
    """How many nodes must be alive; 0: all that the cluster has ever had."""
    seconds: Positive = 60.0
    """How long nodes may take to answer a question."""
    json: bool = False
    """Print one JSON object at the end instead of lines."""


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Doctor, argv, "python -m jobs.doctor", __doc__ or "")
    from pipeline.distributed.doctor import Finding  # here: the help does not need Ray

    findings, hung = list[dict[str, Any]](), threading.Event()

    def add(finding: Finding, seconds: float) -> None:
        findings.append({**finding._asdict(), "seconds": round(seconds, 2)})
        if not args.json:
            print(_line(finding), flush=True)

    def give_up() -> None:
        add(Finding("ray", "fail", f"does not answer in {limit:g} s", ADDRESS), limit)
        _end(args, findings)
        os._exit(1)

    limit = args.seconds + GRACE_SECONDS
    timer = threading.Timer(limit, give_up)
    timer.daemon = True
    timer.start()
    try:
        for finding, seconds in _examine(args, hung):
            timer.cancel()
            add(finding, seconds)
    except RunError as e:
        add(Finding("ray", "fail", without_secrets(str(e)), _advice(str(e))), 0.0)
    finally:
        timer.cancel()
    code = _end(args, findings)
    if hung.is_set():  # Ray's own shutdown would wait for the thread that hangs
        os._exit(code)
    sys.exit(code)


def _line(finding: "Finding") -> str:
    advice = f"; {finding.advice}" if finding.advice else ""
    return f"{finding.status:5} {finding.check:18} {finding.text}{advice}"


def _advice(error: str) -> str:
    """What to do about an error of connecting."""
    if any(word in error.lower() for word in ("token", "auth", REFUSED)):
        return TOKEN
    return ENVIRONMENT if "mismatch" in error.lower() else ADDRESS


def _end(args: Doctor, findings: list[dict[str, Any]]) -> int:
    """Print what is printed at the end; the exit code."""
    failed = [one["check"] for one in findings if one["status"] == "fail"]
    if args.json:
        print(json.dumps({"ok": not failed, "checks": findings}, indent=2), flush=True)
    else:
        print(f"{len(failed)} of {len(findings)} checks failed" if failed else "the cluster is well", flush=True)
    return int(bool(failed))


def _examine(args: Doctor, hung: threading.Event) -> Iterator[tuple["Finding", float]]:
    """The findings, with the seconds that each took. `hung` is set where a check has not ended."""
    from pipeline.distributed import cluster, doctor
    from pipeline.distributed.probe import probes

    began = time.monotonic()
    with cluster.connected():
        yield doctor.look_at_ray(), time.monotonic() - began
        yield doctor.look_at_nodes(args.nodes), 0.0
        with probes(args.seconds) as (asked, faults):
            if faults:
                yield doctor.processes(faults), args.seconds
            if not asked:
                return
            for name, check in _checks(args, asked).items():
                began = time.monotonic()
                yield _bounded(name, check, args.seconds, hung), time.monotonic() - began


def _checks(args: Doctor, asked: dict[str, Any]) -> dict[str, Callable[[], "Finding"]]:
    """The checks that ask every node, in their order."""
    from pipeline.distributed import doctor

    x = np.random.default_rng(0).random((8, *SPEC.shape), np.float32)
    task = ChainTask(RECIPE.sample_chain, Lane(0, 1), np.arange(8), x, None, RECIPE.langevin, 0, 0)
    ask: dict[str, Any] = {"asked": asked, "seconds": args.seconds}
    return {
        "versions": partial(doctor.check_versions, **ask),
        "clocks": partial(doctor.check_clocks, **ask),
        "folder": partial(doctor.check_folder, folder=args.out, **ask),
        "ports": partial(doctor.check_ports, **ask),
        "all-reduce, gloo": partial(doctor.check_all_reduce, **ask),
        "object store": partial(doctor.check_object_store, **ask),
        "GPUs": partial(doctor.check_gpus, **ask),
        "all-reduce, nccl": partial(doctor.check_nccl, args.seconds),
        "chains": partial(doctor.check_chains, recipe=RECIPE, spec=SPEC, task=task, **ask),
    }


def _bounded(name: str, check: Callable[[], "Finding"], seconds: float, hung: threading.Event) -> "Finding":
    """A check's finding, or a failure where it does not end, as in a file system that hangs."""
    from pipeline.distributed.doctor import Finding

    limit, done = QUESTIONS * seconds + GRACE_SECONDS, Future["Finding"]()

    def call() -> None:
        try:
            done.set_result(check())
        except Exception as e:
            line = next(iter(str(e).splitlines()), "")
            done.set_result(Finding(name, "fail", f"{type(e).__name__}: {line}", "this may be a fault of jobs.doctor"))

    threading.Thread(target=call, daemon=True).start()
    try:
        return done.result(timeout=limit)
    except TimeoutError:
        hung.set()
        return Finding(name, "fail", f"has not ended after {limit:g} s", "look at the load and the disks of the nodes")


if __name__ == "__main__":
    run_command(main)
