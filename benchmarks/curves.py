"""Quality against CPU seconds: the pipeline beside the papers' algorithms as plain scripts, seed by seed, in turns.

python -m benchmarks.curves DATA --out FOLDER [--methods short-run ...] [--seeds 0 1 2] [--minutes 10]: DATA are images
of 32x32 as the pipeline reads them. Three sides a method: the plain script, the pipeline with the script's settings,
and the pipeline's preset (of anatomy, whose script has the preset's settings, two). Each side and seed is one JSON in
FOLDER, which is not measured again; curves.png has all of them. One process, one thread.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import plain_anatomy, plain_latent_prior, plain_short_run
from benchmarks.timing import busy, quiet
from jobs.anatomy import PRESETS as ANATOMY
from jobs.latent_prior import PRESETS as LATENT_PRIOR
from jobs.short_run import PRESETS as SHORT_RUN
from pipeline.chains.local_pool import LocalPool
from pipeline.chains.task import advance
from pipeline.data.dataset import Dataset, load_data
from pipeline.evaluation.comparison import Comparison, feature_comparison
from pipeline.evaluation.judges.features import classifier_features
from pipeline.nets.weights import eval_copy
from pipeline.process import configure_process
from pipeline.recipe import init_networks
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.recipes.short_run import ShortRun
from pipeline.run import run as run_whole
from pipeline.runs import checkpoint
from pipeline.runs.job import Job, override
from pipeline.runs.job_json import to_json
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin
from pipeline.sampling.draw import decode_states, draw_tasks

SHOWN, LOOKS = 500, 6
CPU = torch.device("cpu")
SHORT = plain_short_run
LATENT = plain_latent_prior
METHODS = {
    "short-run": (
        plain_short_run.train,
        override(
            SHORT_RUN["mnist"],
            recipe=ShortRun(
                langevin=Langevin(SHORT.STEPS, 1.0, SHORT.NOISE),
                batch_size=SHORT.BATCH,
                data_noise=SHORT.DATA_NOISE,
                lr=SHORT.RATE,
                width=SHORT.WIDTH,
            ),
        ),
        SHORT_RUN["mnist"],
    ),
    "anatomy": (
        plain_anatomy.train,
        ANATOMY["mnist-convergent"],
        None,
    ),
    "latent-prior": (
        plain_latent_prior.train,
        override(
            LATENT_PRIOR["mnist"],
            recipe=LatentPrior(
                latent_dim=LATENT.LATENT,
                width=LATENT.WIDTH,
                energy_lr=LATENT.ENERGY_RATE,
                generator_lr=LATENT.GENERATOR_RATE,
            ),
        ),
        LATENT_PRIOR["mnist"],
    ),
}
"""By method: the plain script's loop, the pipeline's job with the same settings, and its preset where that differs."""


def plain_curve(train, data: Dataset, seed: int, budget: float, distance: Comparison) -> list[dict[str, float]]:
    """Distances at LOOKS places in a budget of CPU seconds."""
    images = torch.cat([data.batch(part)["x"] for part in np.array_split(np.arange(data.size), data.size // 500 + 1)])
    found, loop = [], train(images.contiguous(), seed)
    for update, (spent, sample) in enumerate(loop, 1):
        if spent >= budget * (len(found) + 1) / LOOKS:
            found.append({"update": update, "seconds": spent, "distance": distance.distance(sample(SHOWN))})
        if len(found) == LOOKS:
            break
    return found


def pipeline_curve(job: Job, data: Dataset, every: int, distance: Comparison) -> list[dict[str, float]]:
    """Distances at each checkpoint of a job, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        job = override(job, learners=0, actors=0, eval_samples=0, keep_checkpoints=10_000, checkpoint_every=every)
        job = override(job, out=f"{folder}/run")
        Storage.at(job.out).write_json("job.json", to_json(job))
        pool = LocalPool(job.recipe, init_networks(job.recipe, data.spec, 0, CPU))
        run_whole(job, CPU, pool, partial(tqdm, mininterval=30))
        return list(_looks(job, data, distance))


def _looks(job: Job, data: Dataset, distance: Comparison):
    nets, checkpoints = eval_copy(init_networks(job.recipe, data.spec, 0, CPU)), Storage.at(job.out) / "checkpoints"
    for name in checkpoint.whole_names(checkpoints):
        for net, weights in checkpoint.read_part(checkpoints / name, "learner")["networks"].items():
            nets[net].load_state_dict(weights)
        snapshot = Snapshot(job, data, nets, checkpoint.update_of(name))
        states = [advance(job.recipe, nets, task).x for task in draw_tasks(snapshot, SHOWN, job.seed)]
        x = decode_states(snapshot, torch.from_numpy(np.concatenate(states)), job.seed)
        seconds = checkpoint.read_state(checkpoints / name)["cpu_seconds"]
        yield {"update": snapshot.update, "seconds": seconds, "distance": distance.distance(x)}


def measure(method: str, side: str, data: Dataset, source: str, seed: int, budget: float, distance: Comparison):
    """The curve of one side with one seed, over a budget of CPU seconds; a preset makes at most its own updates."""
    train, same, preset = METHODS[method]
    if side == "plain":
        return plain_curve(train, data, seed, budget, distance)
    job = override({"same": same, "preset": preset}[side], source=source, seed=seed, lanes=1)
    probe = pipeline_curve(replace(job, updates=4), data, 2, distance)
    updates = round(budget / (probe[-1]["seconds"] / 4))
    updates = updates if side == "same" else min(updates, job.updates)
    return pipeline_curve(replace(job, updates=updates), data, max(updates // LOOKS, 1), distance)


def figure(folder: Path) -> None:
    """curves.png: one panel a method, a band a side from the least to the greatest of its seeds."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(4.5 * len(METHODS), 4), layout="constrained")
    for axes, method in zip(drawing.subplots(1, len(METHODS), squeeze=False)[0], METHODS, strict=True):
        for color, side in enumerate(("plain", "same", "preset")):
            runs = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{method}-{side}-*.json"))]
            for run in runs:
                xy = [(one["seconds"], one["distance"]) for one in run["curve"]]
                axes.plot(*zip(*xy, strict=True), color=f"C{color}", alpha=0.6, label=None if run["seed"] else side)
        axes.set(title=method, xlabel="CPU seconds", ylabel="Fréchet distance", xscale="log", yscale="log")
        axes.legend()
    drawing.savefig(folder / "curves.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("data", help="images with labels")
    parser.add_argument("--out", type=Path, required=True, help="folder of the curves")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sides", nargs="+", choices=("plain", "same", "preset"), default=["plain", "same", "preset"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes of a curve")
    asked = parser.parse_args()
    quiet()
    configure_process(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    data = load_data(asked.data)
    distance = feature_comparison(classifier_features(data, CPU), data)
    for seed in asked.seeds:
        for method in asked.methods:
            for side in asked.sides:
                path = asked.out / f"{method}-{side}-{seed}.json"
                if not (path.exists() or (side == "preset" and METHODS[method][2] is None)):
                    curve = measure(method, side, data, asked.data, seed, 60 * asked.minutes, distance)
                    about = {"method": method, "side": side, "seed": seed, "others_busy": busy()}
                    about |= {"torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
                    path.write_text(json.dumps({**about, "curve": curve}))
                figure(asked.out)


if __name__ == "__main__":
    main()
