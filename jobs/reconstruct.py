"""Reconstruct images by inferring the start z of a short-run chain: |x - M(z)|^2, descended through its K steps.

Section 3.4 of 1904.09770. The noise of the chain is off. Errors are mean squares over pixels in [-1, 1].
"""

import sys
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import ResultFolder, SnapshotArgs, load_other_data, open_snapshot, random_items
from pipeline.errors import InputError
from pipeline.nets.weights import device_of
from pipeline.rng import fold
from pipeline.sampling.draw import draw_tasks, start_states
from pipeline.sampling.short_run_map import generate, reconstruct


@dataclass(frozen=True)
class Reconstruct:
    """What is reconstructed, and where the findings go."""

    look: SnapshotArgs
    data: str = ""
    """Data to reconstruct, of the run's shape, best held out from it; empty: the run's own."""
    n: int = 200
    """Items to reconstruct."""
    iterations: int = 200
    """Steps of Adam on z."""
    lr: float = 0.1
    """Learning rate of Adam on z."""


def main() -> None:
    """The command."""
    asked = parse(Reconstruct, sys.argv[1:], "python -m jobs.reconstruct", __doc__ or "")
    if asked.n < 1 or asked.iterations < 1 or not asked.lr > 0:
        raise InputError("--n and --iterations must be 1 or more, --rate above 0")
    model = open_snapshot(asked.look)
    data = load_other_data(model, asked.data) if asked.data else model.data
    findings, device = ResultFolder(asked.look, model, "reconstruct"), device_of(model.nets)
    x = random_items(data, asked.n, fold(asked.look.seed, "items")).to(device)
    tasks = draw_tasks(model.job.recipe, model.nets, model.data, len(x), model.update, asked.look.seed)
    z = start_states(tasks).to(device)
    with tqdm(total=asked.iterations, desc="inferring z", unit="step") as bar:
        z, errors = reconstruct(model.energy, model.langevin, x, z, asked.iterations, asked.lr, lambda: bar.update())
    with torch.no_grad():
        found = generate(model.energy, model.langevin, z)
    best = errors.min(0).values
    metrics = {"mse": float(best.mean()), "mse_start": float(errors[0].mean()), "mse_last": float(errors[-1].mean())}
    findings.result(asked, metrics, errors=errors.mean(1).tolist())
    findings.figure("errors", _curve(errors))
    if data.spec.kind == "image":
        _draw_pairs(findings, x, found)


def _curve(errors: Tensor) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for q in (0.1, 0.5, 0.9):
        axes.plot(errors.quantile(q, dim=1).cpu(), label=f"{q:.0%} of the items below")
    axes.set(yscale="log", xlabel="iterations", ylabel="mean squared error", title="|x - M(z)|^2 over pixels")
    axes.legend()
    return figure


def _draw_pairs(findings: ResultFolder, x: Tensor, found: Tensor) -> None:
    """Rows of originals, each above its reconstructions: at most 40, whole rows only."""
    columns = min(10, len(x))
    shown = min(40, len(x)) // columns * columns
    rows = [part for pair in zip(x[:shown].split(columns), found[:shown].split(columns), strict=True) for part in pair]
    findings.images("reconstructions", torch.cat(rows), columns)


if __name__ == "__main__":
    run_command(main)
