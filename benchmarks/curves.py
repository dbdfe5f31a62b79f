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
SIDES = "plain", "same", "preset"
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
    """curves.png: one panel a method that was measured; a band a side from the least to the greatest of its seeds."""
    from matplotlib.figure import Figure

    curves = {method: {side: _read(folder, method, side) for side in SIDES} for method in METHODS}
    curves = {method: sides for method, sides in curves.items() if any(sides.values())}
    drawing = Figure(figsize=(5.5 * len(curves), 4), layout="constrained")
    for axes, (method, sides) in zip(drawing.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for color, (side, runs) in enumerate(sides.items()):
            if runs:
                _band(axes, runs, f"C{color}", f"{side}, {len(runs)} seeds")
        axes.set(title=method, xlabel="CPU seconds", ylabel="Fréchet distance", yscale="log")
        axes.legend()
    drawing.savefig(folder / "curves.png", dpi=120)


def _read(folder: Path, method: str, side: str) -> list[np.ndarray]:
    """Of each seed, (points, 2): seconds and distances."""
    runs = [json.loads(path.read_text())["curve"] for path in sorted(folder.glob(f"{method}-{side}-*.json"))]
    return [np.array([(one["seconds"], one["distance"]) for one in run]) for run in runs]


def _band(axes, runs: list[np.ndarray], color: str, label: str) -> None:
    """Where all seeds have been measured, from the least to the greatest distance; points as measured."""
    seconds = np.linspace(max(run[0, 0] for run in runs), min(run[-1, 0] for run in runs), 100)
    distances = np.exp([np.interp(seconds, run[:, 0], np.log(run[:, 1])) for run in runs])
    axes.fill_between(seconds, distances.min(0), distances.max(0), color=color, alpha=0.3, label=label)
    for run in runs:
        axes.plot(*run.T, ".", color=color)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("data", help="images with labels")
    parser.add_argument("--out", type=Path, required=True, help="folder of the curves")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
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
