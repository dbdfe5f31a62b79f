"""Reconstruct images by inferring the start z of a short-run chain: |x - M(z)|^2, descended through its K steps.

Section 3.4 of 1904.09770. The noise of the chain is off. Errors are mean squares over pixels in [-1, 1].
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from jobs.launch import guarded, parse
from jobs.model import Findings, items, opened
from pipeline.data import load
from pipeline.errors import BadInput
from pipeline.evaluation import samples
from pipeline.evaluation.generator import generate, reconstruct
from pipeline.report import grid
from pipeline.rng import fold
from pipeline.weights import device_of


@dataclass(frozen=True)
class Reconstruct:
    """What is reconstructed, and where the findings go."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    data: str = ""
    """Data to reconstruct, of the run's shape, best held out from it; empty: the run's own."""
    out: str = ""
    """New folder of the findings; empty: reconstruct-<update> in the run's."""
    n: int = 200
    """Items to reconstruct."""
    iterations: int = 200
    """Steps of Adam on z."""
    rate: float = 0.1
    """Learning rate of Adam on z."""
    seed: int = 0
    """Seed of the starts and of the choice of items."""
    threads: int = 1
    """CPU threads of the process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""


def main() -> None:
    """The command."""
    asked = parse(Reconstruct, sys.argv[1:], "python -m jobs.reconstruct", __doc__ or "")
    if asked.n < 1 or asked.iterations < 1 or asked.seed < 0 or not asked.rate > 0:
        raise BadInput("--n and --iterations must be 1 or more, --seed 0 or more, --rate above 0")
    model = opened(asked.run, asked.threads, asked.device)
    data = load(asked.data) if asked.data else model.data
    if data.spec.shape != model.data.spec.shape:
        raise BadInput(f"--data {asked.data}: its items are of shape {data.spec.shape}, not {model.data.spec.shape}")
    findings = Findings(asked.out, f"{asked.run}/reconstruct-{model.update}")
    device = device_of(model.nets)
    x = items(data, asked.n, fold(asked.seed, "items")).to(device)
    tasks = samples.tasks(model.job.recipe, model.nets, model.data, len(x), model.update, asked.seed)
    z = torch.cat([torch.from_numpy(task.x) for task in tasks]).to(device)
    with tqdm(total=asked.iterations, desc="inferring z", unit="step") as bar:
        z, errors = reconstruct(model.energy, model.langevin, x, z, asked.iterations, asked.rate, lambda: bar.update())
    with torch.no_grad():
        found = generate(model.energy, model.langevin, z)
    best = errors.min(0).values
    metrics = {"mse": float(best.mean()), "mse_start": float(errors[0].mean()), "mse_last": float(errors[-1].mean())}
    findings.result(model, asked, metrics, errors=errors.mean(1).tolist())
    findings.figure("errors", _curve(errors))
    if data.spec.kind == "image":
        findings.figure("reconstructions", _pairs(x.cpu(), found.cpu()))


def _curve(errors: Tensor) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for q in (0.1, 0.5, 0.9):
        axes.plot(errors.quantile(q, dim=1).cpu(), label=f"{q:.0%} of the items below")
    axes.set(yscale="log", xlabel="iterations", ylabel="mean squared error", title="|x - M(z)|^2 over pixels")
    axes.legend()
    return figure


def _pairs(x: Tensor, found: Tensor) -> Figure:
    """Rows of originals, each above its reconstructions."""
    rows = [part for pair in zip(x[:40].split(10), found[:40].split(10), strict=True) for part in pair]
    figure = Figure(figsize=(10, len(rows)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(grid(torch.cat(rows), 10).permute(1, 2, 0))
    axes.axis("off")
    return figure


if __name__ == "__main__":
    guarded(main)
