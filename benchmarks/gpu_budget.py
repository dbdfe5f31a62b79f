"""Estimates of hours and memory for the commands of docs/gpu.md, none of which was run: counted, not measured.

The floating point operations and the calls of one update are counted on the CPU, on pictures of the right size, with a
few items; a GPU then takes as long as its calls need to be launched, or its operations at RATE, whichever is longer.
"""

import re
import shlex
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from jobs.cli import launch
from jobs.cli.experiment import run_experiment
from pipeline.chains.local_pool import LocalPool
from pipeline.recipe import init_networks
from pipeline.runs.job import Job, load_dataset, override
from pipeline.training.worker import Worker

PAGE = Path(__file__).parents[1] / "docs" / "gpu.md"
RATE, LAUNCH = 60e12, 10e-6
"""Assumed of an H100: floating point operations a second in TF32, an eighth of its peak, and seconds of a call."""
LINK = {1: 1e12, 8: 200e9, 32: 12.5e9}
"""Assumed bytes a second between learners, by their number: NVLink within a machine, 100 Gbit/s between machines."""
CONTEXT, PROCESS = 0.6e9, 1.5e9
"""Bytes that CUDA takes of a GPU, and a learner of its machine."""
ITEMS = 4
"""Of the counted update."""


@dataclass
class Counts:
    """Of an update: floating point operations and bytes kept for the backward pass, both per item; calls; weights."""

    operations: float
    kept: float
    calls: int
    weights: int


def commands() -> list[str]:
    """The lines of the page's blocks that start a run."""
    return re.findall(r"^python -m (jobs\.\w+ .*--precision .*)$", PAGE.read_text(), re.MULTILINE)


def job_of(command: str) -> Job:
    """The job that a command would start. Raises InputError where it would be refused."""
    module, *flags = shlex.split(command)
    with patch.object(launch, "start_run") as start:
        run_experiment(module.removeprefix("jobs."), flags)
    return start.call_args[0][0]


class Counter(TorchDispatchMode):
    """Counts calls that would each start something on a GPU, and their floating point operations."""

    calls, operations = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.calls += not func.is_view
        if count := flop_registry.get(func.overloadpacket):
            self.operations += count(*args, **kwargs, out_val=result)
        return result


def counted(job: Job, folder: str) -> Counts:
    """One update with a few items, on random pictures."""
    side, path = 64 if job.data.source == "celeba" else 32, f"{folder}/pictures.npz"
    rng = np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 256, (2000, side, side, 3), np.uint8), labels=np.arange(2000) % 10)
    streams = {name: ITEMS for name in ("batch_size", "labelled_batch_size") if hasattr(job.recipe, name)}
    job = override(job, recipe=replace(job.recipe, **streams), source=path, max_items=0, lanes=1, out=f"{folder}/run",
                   precision="highest")  # fmt: skip
    data, kept = load_dataset(job), []
    worker = Worker(
        job, data, torch.device("cpu"), LocalPool(job.recipe, init_networks(job.recipe, data.spec, 0, "cpu"))
    )
    worker.restore()
    update = worker.learner.update

    def watched(*args):
        def keep(x):
            kept.append(x.nbytes)
            return x

        with saved_tensors_hooks(keep, lambda x: x):
            return update(*args)

    worker.learner.update = watched
    with Counter() as counter:
        worker.step(0)
    weights = worker.learner.weights()[0].size
    return Counts(counter.operations / ITEMS, sum(kept) / ITEMS, counter.calls, weights)


def hours(job: Job, counts: Counts) -> float:
    learners = job.resources.learners or 1
    computing = counts.operations * job.recipe.batch_size / learners / RATE
    adding = 8 * counts.weights / LINK[learners]
    return job.updates * (max(computing, counts.calls * LAUNCH) + adding) / 3600


def gpu_memory(job: Job, counts: Counts) -> float:
    """GB of each GPU: gradients, Adam's moments and two sets of weights, and what a backward pass keeps."""
    share = job.recipe.batch_size / (job.resources.learners or 1)
    return (CONTEXT + 24 * counts.weights + counts.kept * share) / 1e9


def machine_memory(job: Job) -> float:
    """GB of each machine: its learners, and part of a bank (34 kB for a state of 12.3 kB, as in docs/scale.md)."""
    learners = job.resources.learners or 1
    bank = sum(chain.bank for chain in job.recipe.chains.values() if chain.bank != "datum") * 34e3
    return (PROCESS * min(learners, 8) + bank * min(learners, 8) / learners) / 1e9


def main() -> None:
    jobs: dict[str, list[Job]] = {}
    for command in commands():
        job = job_of(command)
        jobs.setdefault(job.name, []).append(job)
    print("| preset | weights | TFLOP an update | calls | hours: 1 GPU | 8 | 32 | GB of a GPU | GB of a machine |")
    print("|---|---|---|---|---|---|---|---|---|")
    torch.set_num_threads(1)
    for name, layouts in jobs.items():
        with tempfile.TemporaryDirectory() as folder:
            counts = counted(layouts[0], folder)
        one = layouts[0]
        cells = [f"{counts.weights / 1e6:.2g} M", f"{counts.operations * one.recipe.batch_size / 1e12:.2g}"]
        cells += [f"{counts.calls:,}", *(f"{hours(job, counts):.2g}" for job in layouts)]
        cells += [f"{gpu_memory(one, counts):.2g}", f"{machine_memory(one):.2g}"]
        print(f"| {name} | {' | '.join(cells)} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
