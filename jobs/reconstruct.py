"""Reconstruct images: infer the start z of a short-run chain by descending |x - M(z)|^2 through its K steps.

Section 3.4 of 1904.09770. The chain runs without noise. Errors are mean squares over pixels in [-1, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, load_other_data, open_snapshot, random_items, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from pipeline.rng import fold
from pipeline.sampling.draw import draw_tasks, start_states
from pipeline.sampling.short_run_map import generate, reconstruct
from pipeline.settings import Positive, PositiveInt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAIRS_SHOWN = 40
COLUMNS = 10


@dataclass(frozen=True)
class Reconstruct(SnapshotArgs):
    """The run, and what is reconstructed."""

    data: str = ""
    """Data to reconstruct, of the run's shape, best held out from it; empty: the run's own."""
    n: PositiveInt = 200
    """Items to reconstruct."""
    iterations: PositiveInt = 200
    """Steps of Adam on z."""
    lr: Positive = 0.1
    """Learning rate of Adam on z."""


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Reconstruct, argv, "python -m jobs.reconstruct", __doc__ or "")
    snapshot = open_snapshot(args)
    energy, langevin, seed = snapshot.energy, snapshot.langevin, seed_of(args, snapshot)
    data = load_other_data(snapshot, args.data) if args.data else snapshot.data
    folder, device = ResultFolder(args, snapshot, "reconstruct"), snapshot.device
    x = random_items(data, args.n, fold(seed, "items")).to(device)
    z = start_states(draw_tasks(snapshot, len(x), seed)).to(device)
    with tqdm(total=args.iterations, desc="inferring z", unit="step") as bar:
        z, errors = reconstruct(energy, langevin, x, z, args.iterations, args.lr, lambda: bar.update())
    with torch.no_grad():
        reconstructed = generate(energy, langevin, z)
    best = errors.min(0).values
    metrics = {"mse": float(best.mean()), "mse_start": float(errors[0].mean()), "mse_last": float(errors[-1].mean())}
    folder.result(args, metrics, errors=errors.mean(1).tolist())
    folder.figure("errors", _error_figure(errors))
    if data.spec.kind == "image":
        _draw_pairs(folder, x, reconstructed)


def _error_figure(errors: Tensor) -> "Figure":
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for q in (0.1, 0.5, 0.9):
        axes.plot(errors.quantile(q, dim=1).cpu(), label=f"{q:.0%} of the items below")
    axes.set(yscale="log", xlabel="iterations", ylabel="mean squared error", title="|x - M(z)|^2 over pixels")
    axes.legend()
    return figure


def _draw_pairs(folder: ResultFolder, x: Tensor, reconstructed: Tensor) -> None:
    """Rows of originals, each above its reconstructions; whole rows only."""
    columns = min(COLUMNS, len(x))
    count = min(PAIRS_SHOWN, len(x)) // columns * columns
    pairs = zip(x[:count].split(columns), reconstructed[:count].split(columns), strict=True)
    folder.images("reconstructions", torch.cat([row for pair in pairs for row in pair]), columns)


if __name__ == "__main__":
    run_command(main)
