"""Checks of a cluster, each bounded in time, each with one finding. It knows no paper.

A check asks a probe on every node, and names the nodes that give another answer or none.
"""

import os
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.batch import Spec
from pipeline.chains.task import ChainTask
from pipeline.distributed.probe import NodeProbe, Probes, ask, chain_digest, end_probes, first_line, versions
from pipeline.errors import RunError
from pipeline.recipe import Recipe
from pipeline.runs.storage import Storage

SKEW_SECONDS = 2.0
"""Clocks that differ by more get a warning: times in logs and leases are of different nodes."""
NEIGHBOURS = 8
"""Other nodes that each node tries to reach."""
NUMBERS = 2**21
"""float32 numbers of an all-reduce, 8 MiB, and eight times as many of an object."""
UNEXPECTED_DEATHS = (0, 2)
"""Of the numbers by which Ray says why a node is gone: no reason, and an unexpected end."""


class Finding(NamedTuple):
    """What a check has found."""

    check: str
    status: Literal["ok", "warn", "fail"]
    text: str
    advice: str = ""
    """What to do; empty where there is nothing to do."""


def look_at_ray() -> Finding:
    """The Ray that this process is connected to."""
    text = f"{ray.__version__} at {ray.get_runtime_context().gcs_address}"
    if not os.environ.get("RAY_ADDRESS"):
        return Finding("ray", "warn", f"{text}, started for this command", "set RAY_ADDRESS to look at a cluster")
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode != "token":
        advice = "set RAY_AUTH_MODE=token before `ray start`, with one token on all nodes"
        return Finding("ray", "warn", f"{text}, open to everyone who reaches it", advice)
    return Finding("ray", "ok", f"{text}, with a token")


def processes(faults: Mapping[str, str]) -> Finding:
    """The finding for nodes that have started no probe."""
    advice = "look at the node's load, its firewall, and /tmp/ray/session_latest/logs there"
    return Finding("processes", "fail", f"no process starts on {_list(faults)}", advice)


def look_at_nodes(least: int) -> Finding:
    """Which nodes are alive, and which have died. `least`: how many there must be; 0: all that were ever there."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    places = {node["NodeManagerAddress"] for node in alive}
    dead = {
        node["NodeManagerAddress"]
        for node in ray.nodes()
        if not node["Alive"] and node["DeathReason"] in UNEXPECTED_DEATHS
    } - places
    cpus, gpus = (sum(node["Resources"].get(kind, 0) for node in alive) for kind in ("CPU", "GPU"))
    text = f"{len(alive)} alive with {cpus:g} CPU and {gpus:g} GPU"
    if dead:
        text += f"; died: {', '.join(sorted(dead))}"
    if len(alive) < least:
        return Finding(
            "nodes", "fail", f"{text}; {least} must be there", "start Ray on the others, and look at ray.log"
        )
    if dead:
        advice = "look whether they are up and reach the head, then `ray start --address HEAD:6379` there"
        return Finding("nodes", "warn" if least else "fail", text, advice)
    return Finding("nodes", "ok", text)


def _list(reasons: Mapping[str, object]) -> str:
    """The nodes by what is said of them: `10.0.0.2, 10.0.0.3 (no answer in 30 s)`."""
    by_reason: dict[str, list[str]] = {}
    for place, reason in reasons.items():
        by_reason.setdefault(str(reason), []).append(place)
    return "; ".join(f"{', '.join(sorted(places))} ({reason})" for reason, places in by_reason.items())


def check_versions(asked: Probes, seconds: float) -> Finding:
    """Whether all nodes have the versions of this process."""
    own = versions()
    answers, faults = ask(asked, lambda probe, _: probe.versions.remote(), seconds)
    for place, found in answers.items():
        if others := [f"{name} {found[name]}" for name in own if found[name] != own[name]]:
            faults[place] = ", ".join(others)
    here = ", ".join(f"{name} {version}" for name, version in own.items())
    if faults:
        advice = "install the same environment and the same code on every node, then start Ray there again"
        return Finding("versions", "fail", f"{_list(faults)}, but here {here}", advice)
    return Finding("versions", "ok", here)


def check_clocks(asked: Probes, seconds: float) -> Finding:
    """Whether the clocks agree, up to the time that a message takes."""
    skews, faults = {}, dict[str, str]()
    for place, probe in asked.items():
        sent = time.time()
        answers, silent = ask({place: probe}, lambda one, _: one.clock.remote(), seconds)
        faults |= silent
        if answers:
            skews[place] = answers[place] - (sent + time.time()) / 2
    return judge_clocks(skews, faults)


def judge_clocks(skews: Mapping[str, float], faults: Mapping[str, str]) -> Finding:
    """The finding for these differences from this node's clock, in seconds."""
    off = {place: f"{skew:+.1f} s" for place, skew in skews.items() if abs(skew) > SKEW_SECONDS}
    if off or faults:
        advice = "start a time service (chrony, systemd-timesyncd) on each node"
        return Finding("clocks", "fail" if faults else "warn", _list({**off, **faults}), advice)
    worst = max(map(abs, skews.values()), default=0.0)
    return Finding("clocks", "ok", f"at most {worst * 1000:.0f} ms apart")


def check_folder(asked: Probes, folder: str, seconds: float) -> Finding:
    """Whether every node reads what this one has written in a folder, and this one what they write."""
    if not folder:
        return Finding("folder", "warn", "not checked", "name the folder of your runs with --out")
    place, name = Storage.at(folder), f"doctor-{uuid.uuid4().hex[:12]}"
    advice = f"mount {place} on every node, or use s3:// or gs://"
    existed = place.exists()
    written = [name]
    try:
        place.write(name, name.encode())
        targets = [f"{name}-{i}" for i in range(len(asked))]
        answers, faults = ask(asked, lambda one, i: one.copy.remote(place.uri, name, targets[i]), seconds)
        for one, target in zip(asked, targets, strict=True):
            if one in answers and not (place.exists(target) and place.read(target) == name.encode()):
                faults[one] = "what it writes is not seen here"
            written += [target] if place.exists(target) else []
    except (RunError, OSError) as e:
        return Finding("folder", "fail", first_line(e), advice)
    finally:
        with suppress(RunError, OSError):
            for one in written:
                place.remove(one)
            if not existed:
                place.delete()
    if faults:
        return Finding("folder", "fail", f"{place} is not shared: {_list(faults)}", advice)
    return Finding("folder", "ok", f"all nodes read and write {place}")


def check_ports(asked: Probes, seconds: float) -> Finding:
    """Whether nodes reach ports of each other that the system chooses, as Ray's workers and gloo use them."""
    ports, faults = ask(asked, lambda one, _: one.listen.remote(), seconds)
    listening = [(place.partition("/")[0], port) for place, port in ports.items()]
    there = {place: asked[place] for place in ports}
    answers, silent = ask(there, lambda one, i: one.unreachable.remote(_neighbours(listening, i)), seconds)
    faults |= silent | {place: f"does not reach {', '.join(bad)}" for place, bad in answers.items() if bad}
    if faults:
        return Finding("ports", "fail", _list(faults), "open all TCP ports between the nodes of the cluster")
    return Finding("ports", "ok", "every node reaches a free port of the others" if len(ports) > 1 else "one node")


def _neighbours(places: list[tuple[str, int]], i: int) -> list[tuple[str, int]]:
    """The NEIGHBOURS places after the i-th, in a ring."""
    return [places[(i + k) % len(places)] for k in range(1, min(NEIGHBOURS, len(places) - 1) + 1)]


def check_all_reduce(asked: Probes, seconds: float, backend: str = "gloo") -> Finding:
    """A real all-reduce over all nodes, and the rate of its bus: 2 (n - 1) / n times the bytes of a node, a second."""
    check = f"all-reduce, {backend}"
    first = next(iter(asked))
    ports, faults = ask({first: asked[first]}, lambda one, _: one.free_port.remote(), seconds)
    if not faults:
        place, n = f"{first.partition('/')[0]}:{ports[first]}", len(asked)
        times, faults = ask(asked, lambda one, i: one.all_reduce.remote(i, n, place, NUMBERS, seconds / 2), seconds)
    if faults:
        name = "GLOO_SOCKET_IFNAME" if backend == "gloo" else "NCCL_SOCKET_IFNAME"
        advice = f"open all TCP ports between the nodes, or set {name} to the interface that they reach each other by"
        return Finding(check, "fail", _list(faults), advice)
    slowest = max(times.values())
    rate = f", {2 * (n - 1) / n * 4 * NUMBERS / slowest / 1e6:.0f} MB/s" if n > 1 else ""
    return Finding(check, "ok", f"8 MiB over {n} nodes in {slowest * 1000:.0f} ms{rate}")


def check_nccl(seconds: float) -> Finding:
    """As `check_all_reduce`, over one free GPU of each node that has some."""
    free = {
        node["NodeManagerAddress"]: NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU", 0) >= 1
    }
    if not free:
        return Finding("all-reduce, nccl", "ok", "no GPUs")
    started = {
        place: ray.remote(num_cpus=0, num_gpus=1, scheduling_strategy=pinned)(NodeProbe).remote()
        for place, pinned in free.items()
    }
    try:
        ready, busy = ask(started, lambda one, _: one.clock.remote(), seconds)
        if busy:
            advice = "ask again when no run holds all GPUs of a node"
            return Finding("all-reduce, nccl", "warn", f"no free GPU on {', '.join(busy)}", advice)
        return check_all_reduce({place: started[place] for place in ready}, seconds, "nccl")
    finally:
        end_probes(started)


def check_object_store(asked: Probes, seconds: float) -> Finding:
    """How fast an object travels from this node's store to each of the others."""
    array = np.ones(8 * NUMBERS, np.float32)
    reference = [ray.put(array)]
    times, faults = ask(asked, lambda one, _: one.fetch.remote(reference), seconds)
    if faults:
        advice = "open all TCP ports between the nodes, and give Ray more room in /dev/shm"
        return Finding("object store", "fail", _list(faults), advice)
    slowest = max(times, key=lambda place: times[place])
    rate = array.nbytes / 1e6 / times[slowest]
    return Finding("object store", "ok", f"64 MiB to each node, at {rate:.0f} MB/s or more ({slowest})")


def check_gpus(asked: Probes, seconds: float) -> Finding:
    """Whether the driver, torch and Ray agree about the GPUs of each node, and the drivers with each other."""
    given = Counter[str]()
    for node in ray.nodes():
        given[node["NodeManagerAddress"]] += int(node["Resources"].get("GPU", 0)) if node["Alive"] else 0
    answers, faults = ask(asked, lambda one, _: one.gpus.remote(), seconds)
    return judge_gpus({place: (*answer, given[place.partition("/")[0]]) for place, answer in answers.items()}, faults)


def judge_gpus(found: Mapping[str, tuple[list[str], int, int]], faults: Mapping[str, str]) -> Finding:
    """The finding for each node's GPUs ("name, driver"), how many torch can use, and how many Ray gives away."""
    bad = dict(faults)
    unused = dict[str, str]()
    for place, (names, usable, given) in found.items():
        if usable < max(given, bool(names)):
            bad[place] = f"{len(names)} GPUs, Ray gives {given}, torch can use {usable}"
        elif given < usable:
            unused[place] = f"{usable} GPUs, Ray gives {given}"
    kinds = Counter(name for names, _, _ in found.values() for name in names)
    if bad:
        advice = "install a driver that fits torch's CUDA, or start Ray there with the right --num-gpus"
        return Finding("GPUs", "fail", _list(bad), advice)
    if unused:
        return Finding("GPUs", "warn", _list(unused), "start Ray there without --num-gpus to use all of them")
    drivers = {name.rpartition(",")[2].strip() for name in kinds}
    text = ", ".join(f"{n} x {name}" for name, n in sorted(kinds.items())) or "none"
    if len(drivers) > 1:
        return Finding("GPUs", "warn", text, "install one driver version on all nodes")
    return Finding("GPUs", "ok", text)


def check_chains(asked: Probes, recipe: Recipe, spec: Spec, task: ChainTask, seconds: float) -> Finding:
    """Whether a task of chains comes out on each node as in this process, bit for bit."""
    own = chain_digest(recipe, spec, task)
    answers, faults = ask(asked, lambda one, _: one.chain.remote(recipe, spec, task), seconds)
    if faults:
        return Finding("chains", "fail", _list(faults), "look at /tmp/ray/session_latest/logs on these nodes")
    if other := {place: "other numbers" for place, digest in answers.items() if digest != own}:
        advice = "runs are equal bit for bit only on the same kind of CPU; else they agree in distribution"
        return Finding("chains", "warn", _list(other), advice)
    return Finding("chains", "ok", f"the same end on {len(answers)} nodes, bit for bit")
