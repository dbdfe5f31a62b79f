"""Walk paths and follow them by motions alone: how far positions that are read from a run's vectors are off.

For a run of grid_cells on positions. Errors are in cells, the distance of two neighbours on the lattice of positions;
noise is in units of the vector's norm, at every step. Re-encoding replaces the vector at every step by that of the
position that is read from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, open_snapshot, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from pipeline.errors import InputError
from pipeline.evaluation.metrics.grid_maps import NEAR
from pipeline.evaluation.metrics.path_integration import (
    Walks,
    decoding_errors,
    integrate,
    path_errors,
    random_walks,
)
from pipeline.nets.position_code import PositionCode, require_room
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot
from pipeline.settings import NonNegative, Positive, PositiveInt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 3
"""Paths in the figure."""


@dataclass(frozen=True)
class PathIntegration(SnapshotArgs):
    """The run, and the paths."""

    paths: PositiveInt = 200
    """Number of paths."""
    steps: PositiveInt = 60
    """Steps of a path."""
    longest: Positive = 3.0
    """Longest step, in cells."""
    noises: tuple[NonNegative, ...] = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
    """Noise at every step, in units of the vector's norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.noises:
            raise InputError("must not be empty", "noises", self.noises)


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(PathIntegration, argv, "python -m jobs.path_integration", __doc__ or "")
    snapshot = open_snapshot(args, needs_energy=False)
    code, seed = _code(args, snapshot), seed_of(args, snapshot)
    require_room("longest", args.longest, code.side)
    folder = ResultFolder(args, snapshot, "path_integration")
    rng = generator(fold(seed, "walks"), snapshot.device)
    start = (code.side - 1) * torch.rand(args.paths, 2, generator=rng, device=snapshot.device)
    walks = random_walks(start, args.steps, args.longest, code.side, rng)
    decoded = {
        (noise, reencodes): integrate(code, walks, noise, reencodes, generator(fold(seed, "noise"), snapshot.device))
        for noise in args.noises
        for reencodes in (False, True)
    }
    errors = {way: path_errors(walks, one).cpu() for way, one in decoded.items()}
    static = {noise: decoding_errors(code, start, noise, rng).cpu() for noise in args.noises}
    curves = {_name(*way): one.mean(1).tolist() for way, one in errors.items()}
    folder.result(args, _metrics(walks, errors, static), curves=curves)
    folder.figure("errors", _errors_figure(errors, args.steps))
    folder.figure("paths", _paths_figure(walks, decoded, code.side))


def _code(args: PathIntegration, snapshot: Snapshot) -> PositionCode:
    code = snapshot.nets.get("code")
    if not isinstance(code, PositionCode):
        raise InputError(f"{type(snapshot.recipe).__name__} has no vectors for positions", "run", args.run)
    return code


def _name(noise: float, reencodes: bool) -> str:
    return f"noise_{noise:g}{'_reencoded' if reencodes else ''}"


def _metrics(walks: Walks, errors: dict[tuple[float, bool], Tensor], static: dict[float, Tensor]) -> dict[str, float]:
    """Mean errors after the last step; of staying put; and of decoding single vectors, with the share that is near."""
    metrics = {f"path_error_{_name(*way)}": float(one[-1].mean()) for way, one in errors.items()}
    metrics["path_error_staying_put"] = float((walks.positions[-1] - walks.positions[0]).norm(dim=1).mean())
    for noise, one in static.items():
        metrics[f"decoding_error_{_name(noise, False)}"] = float(one.mean())
        metrics[f"decoding_near_{_name(noise, False)}"] = float((one <= NEAR).float().mean())
    return metrics


def _errors_figure(errors: dict[tuple[float, bool], Tensor], steps: int) -> "Figure":
    """Mean errors by number of steps, for each noise; and after the last step, by noise."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    by_step, by_noise = figure.subplots(1, 2)
    noises = list(dict.fromkeys(noise for noise, _ in errors))
    for reencodes, style in ((False, "-"), (True, "--")):
        for i, noise in enumerate(noises):
            label = f"noise {noise:g}" if not reencodes else None
            by_step.plot(errors[noise, reencodes].mean(1), style, color=f"C{i}", linewidth=1, label=label)
        last = [float(errors[noise, reencodes][-1].mean()) for noise in noises]
        by_noise.plot(noises, last, f"o{style}", label="re-encoded at every step" if reencodes else "motions alone")
    by_step.set(xlabel="steps", ylabel="mean error, cells", yscale="log", title="dashed: re-encoded at every step")
    by_noise.set(xlabel="noise at every step, |v|", ylabel="mean error, cells", title=f"after {steps} steps")
    by_step.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    by_noise.legend()
    return figure


def _paths_figure(walks: Walks, decoded: dict[tuple[float, bool], Tensor], side: int) -> "Figure":
    """Paths as they were walked and as they are read: at the least noise, and where re-encoding gains most."""
    from matplotlib.figure import Figure  # slow to import

    noises = sorted({noise for noise, _ in decoded})
    last = {way: float(path_errors(walks, one)[-1].mean()) for way, one in decoded.items()}
    noise = max(noises, key=lambda one: last[one, False] - last[one, True])
    ways = dict.fromkeys([(noises[0], False), (noise, False), (noise, True)])
    figure = Figure(figsize=(3.2 * len(ways), 3.4), layout="constrained")
    for axes, way in zip(figure.subplots(1, len(ways), squeeze=False).flat, ways, strict=True):
        for i in range(min(SHOWN, walks.motions.shape[1])):
            axes.plot(*walks.positions[:, i].cpu().T, color=f"C{i}", linewidth=1)
            axes.plot(*decoded[way][:, i].cpu().T, ".", color=f"C{i}", markersize=4)
        axes.set(xlim=(-1, side), ylim=(-1, side), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"noise {way[0]:g}{', re-encoded' if way[1] else ''}", fontsize=9)
    figure.suptitle("walked (lines) and read (dots)", fontsize=10)
    return figure


if __name__ == "__main__":
    run_command(main)
