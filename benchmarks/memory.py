"""Peak resident memory of learner and actor, and how it grows with batch and bank.

Anatomy on 32x32 images, the nf 32 ConvNet, one learner in its own process and one actor; a state has 12.3 kB. Four
updates of two steps and a checkpoint.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import Row, smaller
from pipeline.runs.job import DataSettings, EvaluationSettings, ResourceSettings, override

SMALL, LARGE, BANK = 64, 512, 20_000
STATE = 3 * 32 * 32 * 4 / 1e6


def peak(pid: int) -> float:
    """Megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3


def run(data: str, batch: int, bank: int) -> dict[str, float]:
    """In a process of its own."""
    import torch
    from tqdm import tqdm

    from pipeline.distributed import cluster
    from pipeline.distributed.actor_pool import ActorPool
    from pipeline.distributed.train import chain_actors
    from pipeline.recipes.anatomy import Anatomy
    from pipeline.run import run as run_whole
    from pipeline.runs.job import Job, load_dataset
    from pipeline.runs.job_json import to_json
    from pipeline.runs.storage import Storage
    from pipeline.samplers.langevin import Langevin

    torch.set_num_threads(1)
    recipe = Anatomy(langevin=Langevin(steps=2, drift=1.0, noise=0.01), batch_size=batch, width=32, bank=bank)
    with tempfile.TemporaryDirectory() as folder, cluster.connected():
        job = Job(
            name="memory",
            recipe=recipe,
            updates=4,
            lanes=1,
            data=DataSettings(data),
            resources=ResourceSettings(learners=0, actors=1),
            evaluation=EvaluationSettings(eval_samples=0),
        )

        import ray

        job = override(job, out=f"{folder}/run", log_every=1)
        Storage.at(job.out).write_json("job.json", to_json(job))
        with chain_actors(job, load_dataset(job).spec) as handles:
            pid = ray.get(handles[0].pid.remote())
            before = {"learner": peak(os.getpid()), "actor": peak(pid)}
            run_whole(job, torch.device("cpu"), ActorPool(handles), partial(tqdm, disable=True))
            return {"learner": peak(os.getpid()), "actor": peak(pid), **{f"{k} before": v for k, v in before.items()}}


def measured(data: str, batch: int, bank: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", data, str(batch), str(bank)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout.splitlines()[-1])


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        data, images = f"{folder}/data.npz", np.zeros((1000, 32, 32, 3), np.uint8)
        np.savez(data, images=images)
        small, large, banked = (measured(data, *size) for size in ((SMALL, 0), (LARGE, 0), (SMALL, BANK)))
    found = []
    for who in ("learner", "actor"):
        found.append(
            smaller(f"{who}, batch {SMALL}: before the first update", "MB", small[who], small[f"{who} before"])
        )
        growth = (large[who] - small[who]) / (LARGE - SMALL)
        found.append(smaller(f"{who}, each image of a batch more: a state", "MB", growth, STATE))
    growth = (banked["learner"] - small["learner"]) / BANK
    return [*found, smaller(f"learner, each state of a bank of {BANK:,}: a state", "MB", growth, STATE)]


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
