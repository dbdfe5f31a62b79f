"""Interpolate between the starts of short-run chains: x = M(rho z1 + sqrt(1 - rho^2) z2) (1904.09770).

M is the run's own K steps without their noise. Where the run's noise is large, as in convergent learning, that is
another law than the model's.
"""

import sys
from dataclasses import dataclass

import torch

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import ResultFolder, SnapshotArgs, open_snapshot
from pipeline.errors import InputError
from pipeline.nets.weights import device_of
from pipeline.sampling.draw import draw_tasks, start_states
from pipeline.sampling.short_run_map import generate, interpolate_starts


@dataclass(frozen=True)
class Interpolate:
    """What is drawn, and where the findings go."""

    look: SnapshotArgs
    pairs: int = 8
    """Pairs of starts; a row each."""
    n: int = 10
    """Images of a row, both ends counted."""


def main() -> None:
    """The command."""
    asked = parse(Interpolate, sys.argv[1:], "python -m jobs.interpolate", __doc__ or "")
    if asked.pairs < 1 or asked.n < 2:
        raise InputError("--pairs must be 1 or more, --n 2 or more")
    model = open_snapshot(asked.look)
    if model.data.spec.kind != "image":
        raise InputError(f"{asked.look.run} is no run of images")
    findings = ResultFolder(asked.look, model, "interpolate")
    recipe, nets = model.job.recipe, model.nets
    tasks = draw_tasks(recipe, nets, model.data, 2 * asked.pairs, model.update, asked.look.seed)
    ends = start_states(tasks).to(device_of(nets))
    z = torch.cat([interpolate_starts(a, b, asked.n) for a, b in zip(ends[::2], ends[1::2], strict=True)])
    with torch.no_grad():
        x = generate(model.energy, model.langevin, z)
    rows = x.view(asked.pairs, asked.n, -1)
    metrics = {
        "largest_step": float((rows[:, 1:] - rows[:, :-1]).square().mean(2).amax(1).mean()),
        "end_to_end": float((rows[:, -1] - rows[:, 0]).square().mean()),
    }
    findings.result(asked, metrics)
    findings.images("interpolation", x, asked.n)


if __name__ == "__main__":
    run_command(main)
