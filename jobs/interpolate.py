"""Interpolate between the starts of short-run chains: x = M(rho z1 + sqrt(1 - rho^2) z2) (1904.09770).

M is the run's own K steps without their noise. Where that noise is large, as in convergent learning, the images follow
another law than the model's samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, open_snapshot, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from pipeline.errors import InputError
from pipeline.sampling.draw import draw_tasks, start_states
from pipeline.sampling.short_run_map import generate, interpolate_starts
from pipeline.settings import PositiveInt


@dataclass(frozen=True)
class Interpolate(SnapshotArgs):
    """The run, and what is drawn."""

    pairs: PositiveInt = 8
    """Pairs of starts, one row each."""
    n: PositiveInt = 10
    """Images per row, both ends included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 2:
            raise InputError("a row has two ends: must be 2 or more", "n", self.n)


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Interpolate, argv, "python -m jobs.interpolate", __doc__ or "")
    snapshot = open_snapshot(args)
    if snapshot.data.spec.kind != "image":
        raise InputError("it did not learn from images", "run", args.run)
    energy, langevin = snapshot.energy, snapshot.langevin
    folder = ResultFolder(args, snapshot, "interpolate")
    ends = start_states(draw_tasks(snapshot, 2 * args.pairs, seed_of(args, snapshot))).to(snapshot.device)
    z = torch.cat([interpolate_starts(a, b, args.n) for a, b in zip(ends[::2], ends[1::2], strict=True)])
    with torch.no_grad():
        x = generate(energy, langevin, z)
    rows = x.view(args.pairs, args.n, -1)
    metrics = {
        "largest_step": float((rows[:, 1:] - rows[:, :-1]).square().mean(2).amax(1).mean()),
        "end_to_end": float((rows[:, -1] - rows[:, 0]).square().mean()),
    }
    folder.result(args, metrics)
    folder.images("interpolation", x, args.n)


if __name__ == "__main__":
    run_command(main)
