"""The Ray cluster of a run: joined or started, and large enough before anything is asked of it."""

import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("RAY_worker_niceness", "0")  # read when a node starts: chains are the work, not the background
os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's own default; said, so that it need not warn of it
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process more, for a warning that we need not
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")  # a busy machine imports torch for long
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # how soon the driver sees that the workers are done
os.environ.setdefault("RAY_max_direct_call_object_size", str(2**20))  # states travel in messages, not by the store

import ray
from ray._private.state import state as cluster_state
from ray.autoscaler.sdk import request_resources

from pipeline.errors import InputError
from pipeline.runs.job import Job, Range

AUTOSCALE_WAIT = 1200.0
"""Seconds to wait for a cluster that adds machines by itself, where --wait says nothing."""


@contextmanager
def connected() -> Iterator[None]:
    """Inside the block Ray is up: the cluster that RAY_ADDRESS names, or a new one on this machine.

    Ray by itself would join whatever cluster was last started on this machine, and wait long for one that has died.

    Raises:
        BadInput: nothing answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    if match := re.fullmatch(r"(?:ray://)?\[?([^\]/]+)\]?:(\d+)", address):
        try:
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        except OSError as e:
            raise InputError(f"no Ray cluster answers at RAY_ADDRESS={address}: {e}") from e
    try:
        ray.init(address=address, logging_level="warning")
    except ConnectionError as e:
        raise InputError(f"no Ray cluster answers at RAY_ADDRESS={address}: {str(e).splitlines()[0]}") from e
    try:
        yield
    finally:
        ray.shutdown()


def bundles(job: Job[Any], most: bool = False) -> list[dict[str, float]]:
    """What each learner, actor and observer asks Ray for; of a range of learners, the least or the most."""
    learner = {"CPU": job.resources.cpus_per_learner, "GPU": job.resources.gpus_per_learner}
    actor = {"CPU": job.resources.cpus_per_actor, "GPU": job.resources.gpus_per_actor}
    learners = job.resources.learners[most] if isinstance(job.resources.learners, Range) else job.resources.learners
    observer = {"CPU": job.resources.cpus_per_observer, "GPU": job.resources.gpus_per_observer}
    wanted = [learner] * learners + [actor] * job.resources.actors + [observer] * job.resources.observers
    asked = [{name: amount for name, amount in bundle.items() if amount} for bundle in wanted]
    return [bundle for bundle in asked if bundle]


def missing(wanted: list[dict[str, float]], machines: list[dict[str, float]]) -> str:
    """What the machines lack of all that is wanted, as "4 CPU (2 there)"; empty if nothing.

    Each learner and each actor has to fit on one machine.
    """
    lacks = []
    for name in ("CPU", "GPU"):
        total, there = (sum(part.get(name, 0) for part in parts) for parts in (wanted, machines))
        if total > there + 1e-9:
            lacks.append(f"{total:g} {name} ({there:g} there)")
    if lacks:
        return " and ".join(lacks)
    left = [dict(machine) for machine in machines]
    for bundle in sorted(wanted, key=lambda b: -max(b.values())):
        fits = [m for m in left if all(m.get(name, 0) >= amount - 1e-9 for name, amount in bundle.items())]
        if not fits:
            return f"a machine with {' and '.join(f'{amount:g} {name}' for name, amount in bundle.items())} left"
        for name, amount in bundle.items():
            fits[0][name] -= amount
    return ""


def machines() -> list[dict[str, float]]:
    """The resources of each living machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def wait_for_resources(job: Job[Any]) -> None:
    """Return once the cluster has what the job asks for.

    Raises:
        BadInput: it has not, and neither scales by itself nor did --wait SECONDS bring it.
    """
    wanted = bundles(job)
    learners = job.resources.learners.least if isinstance(job.resources.learners, Range) else job.resources.learners
    watching = f" and {job.resources.observers} observers" if job.resources.observers else ""
    asked = f"{learners} learners and {job.resources.actors} actors{watching} need"
    lacks = missing(wanted, machines())
    if not lacks:
        if busy := missing(wanted, [ray.available_resources()]):
            print(f"{asked} {busy}: waiting until others leave it", file=sys.stderr)
        return
    ceiling = cluster_state.get_max_resources_from_cluster_config()
    scales = ceiling is not None and not missing(wanted, [ceiling])
    patience = job.resources.wait_for_resources or (AUTOSCALE_WAIT if scales else 0)
    if not patience:
        raise InputError(f"{asked} {lacks}; ask for less (--actors, --cpus-per-actor, ...), or --wait for more to join")
    print(f"{asked} {lacks}: waiting up to {patience:g} s", file=sys.stderr)
    request_resources(bundles=bundles(job, most=True))
    try:
        deadline = time.monotonic() + patience
        while lacks := missing(wanted, machines()):
            if time.monotonic() > deadline:
                raise InputError(f"{asked} {lacks}, still, after {patience:g} s")
            time.sleep(min(1.0, patience))
    finally:
        request_resources(bundles=[])
