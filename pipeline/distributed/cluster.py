"""The Ray cluster of a command: join or start it, and check that it is large enough before anything starts.

The check compares requests with the capacity of the machines. Ray's placement groups cannot answer it: they reserve
free resources, so one that waits for other jobs looks like one that never fits.
"""

import ipaddress
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil  # type: ignore[import-untyped]
import ray
from ray.autoscaler.sdk import request_resources

from pipeline import stop
from pipeline.distributed.placement import Bundle, job_bundles, missing_resources
from pipeline.distributed.ray_private import (
    autoscaler_answer,
    default_temporary_folder,
    has_dead_processes,
    max_cluster_resources,
)
from pipeline.errors import InputError, RunError, Stopped
from pipeline.progress import doing
from pipeline.runs.job import Job, Range

LONGEST_FOLDER = 40
"""Characters of the folder for temporary files. Ray adds 66 for its sockets, whose paths may have 107."""
WATCH_SECONDS = 0.5
"""Between two checks whether Ray is still there."""
AUTOSCALE_SECONDS = 1200.0
"""How long to wait for a cluster that adds machines by itself, where wait_for_resources is 0."""
ANSWER_SECONDS = 20.0
"""How long to wait until the autoscaler says whether it can add machines; it looks every 5 s."""


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or start one on this machine, for the length of the block.

    `ray.init()` alone would join any cluster on this machine, and wait long for one that has died.

    Raises:
        InputError: there is no cluster at RAY_ADDRESS, or one whose machines cannot reach each other.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    _connect(address)
    try:
        require_reachable([node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
        with stop.cleaned_up_by(_kill_children):
            try:
                with _watched():
                    yield
            except Stopped as e:
                if address == "local":  # Ray would take its time to end processes that are at work
                    sys.stdout.flush()
                    stop.end_now(e, e.exit_code)
                raise
    finally:
        with stop.deferred():
            ray.shutdown()


def _connect(address: str) -> None:
    """Connect to a cluster, or start one for the address `local`. Raises InputError where there is none."""
    if re.match("https?://", address):
        raise InputError(f"RAY_ADDRESS={address} is where jobs are submitted; name host:port, or unset it")
    if match := re.fullmatch(r"(?:ray://)?\[?([^\]/]+)\]?:(\d+)", address):
        try:
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        except OSError as e:
            raise InputError(f"no Ray cluster answers at RAY_ADDRESS={address}: {e}") from e
    with stop.deferred():
        if address == "local" and len(default_temporary_folder()) > LONGEST_FOLDER:
            os.environ["RAY_TMPDIR"] = "/tmp"
        try:
            # Ctrl-C in a terminal reaches a dashboard's processes, too, and they say so at length
            own = {"include_dashboard": False} if address == "local" else {}
            with doing("starting Ray" if own else f"connecting to Ray at {address}"):
                ray.init(address=address, logging_level="warning", **own)
        except Exception as e:  # of many types, for an address or a machine that Ray cannot use
            why = (str(e).splitlines() or [type(e).__name__])[0]
            what = "Ray cannot start here" if address == "local" else f"no Ray cluster answers at RAY_ADDRESS={address}"
            raise InputError(f"{what}: {why}") from e
        stop.catch_signals_again()  # Ray has taken over SIGTERM


def require_reachable(addresses: Sequence[str]) -> None:
    """Check that no machine of several has a loopback address, under which the others would wait for it for ever.

    Ray takes the address of the host's name, 127.0.1.1 on Debian, where it finds no way out of the network.

    Raises:
        InputError: one has.
    """
    hidden = {address for address in addresses if ipaddress.ip_address(address).is_loopback}
    if hidden and hidden != set(addresses):
        where = ", ".join(sorted(hidden))
        raise InputError(f"no other machine reaches {where}; start Ray there with --node-ip-address=ADDRESS")


def _kill_children() -> None:
    """End every process that this one has started, those of Ray that outlive its raylet for a while, too."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()


@contextmanager
def _watched() -> Iterator[None]:
    """End the process in one line if Ray goes away within the block; calls of Ray would hang, and then be refused."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    end = threading.Event()

    def is_gone() -> bool:
        if has_dead_processes():
            return True
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError:
            return True
        return False

    def watch() -> None:
        while not end.wait(WATCH_SECONDS):
            if is_gone() and not end.wait(WATCH_SECONDS) and is_gone():
                logging.getLogger("ray").setLevel(logging.CRITICAL)
                stop.end_now(RunError("error: Ray has gone away"), RunError.exit_code)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def require_resources(wanted: Sequence[Bundle], who: str, settings: str) -> None:
    """Check that the cluster has room.

    Args:
        wanted: of all processes that run at the same time.
        who: their subject in the error, "a trial needs".
        settings: what to lower.

    Raises:
        InputError: it has none.
    """
    if missing := missing_resources(wanted, _machines()):
        raise InputError(f"{who} {missing}; lower {settings}")


def wait_for_resources(job: Job[Any]) -> None:
    """Return once the cluster has what the job requests.

    A job whose resources are in use by others may start: Ray starts its processes when they are free.

    Raises:
        InputError: the cluster lacks resources, and neither grows by itself nor grew in `wait_for_resources` seconds.
    """
    wanted, who = job_bundles(job), f"{_processes(job)} need"
    missing = missing_resources(wanted, _machines())
    if not missing:
        if in_use := missing_resources(wanted, [ray.available_resources()]):
            print(f"{who} {in_use}: waiting until other jobs free it", file=sys.stderr)
        return
    try:
        request = _accepted_request(job)
        seconds = job.resources.wait_for_resources or (AUTOSCALE_SECONDS if request else 0)
        if not seconds:
            raise InputError(f"{who} {missing}; lower actors or cpus_per_actor, or set wait_for_resources")
        print(f"{who} {missing}: waiting up to {seconds:g} s", file=sys.stderr)
        request_resources(bundles=request or job_bundles(job, most=True))
        deadline = time.monotonic() + seconds
        while missing := missing_resources(wanted, _machines()):
            if time.monotonic() > deadline:
                raise InputError(f"{who} {missing}, still, after {seconds:g} s")
            time.sleep(min(1.0, seconds))
    finally:
        request_resources(bundles=[])


def _accepted_request(job: Job[Any]) -> list[Bundle]:
    """The most that the cluster will add machines for, of what the job can use; empty where it adds none for it."""
    most, least = job_bundles(job, most=True), job_bundles(job)
    requests = [most, least] if most != least else [least]
    if limit := max_cluster_resources():
        return next((request for request in requests if not missing_resources(request, [limit])), [])
    return next((request for request in requests if _autoscaler_accepts(request)), [])


def _autoscaler_accepts(request: list[Bundle]) -> bool:
    """Ask the autoscaler, if there is one, whether it can add the machines for a request, and leave it requested."""
    address = ray.get_runtime_context().gcs_address
    if autoscaler_answer(address, ANSWER_SECONDS) is None:
        return False
    request_resources(bundles=request)
    first, deadline = autoscaler_answer(address, ANSWER_SECONDS), time.monotonic() + ANSWER_SECONDS
    while (answer := autoscaler_answer(address, ANSWER_SECONDS)) and first and time.monotonic() < deadline:
        if answer.answered >= first.asked:
            return not answer.refused
        time.sleep(0.5)
    return False


def _machines() -> list[Bundle]:
    """The capacity of each living machine."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _processes(job: Job[Any]) -> str:
    learners = job.resources.learners.least if isinstance(job.resources.learners, Range) else job.resources.learners
    observers = f" and {job.resources.observers} observers" if job.resources.observers else ""
    return f"{learners} learners and {job.resources.actors} actors{observers}"
