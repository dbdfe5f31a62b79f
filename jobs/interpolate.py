"""Interpolate between the starts of short-run chains, x = M(rho z1 + sqrt(1 - rho^2) z2), K steps each (1904.09770)."""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import tyro
from matplotlib.figure import Figure

from jobs.launch import guarded, parse
from jobs.model import Findings, opened
from pipeline.errors import BadInput
from pipeline.evaluation import samples
from pipeline.evaluation.generator import generate, interpolation
from pipeline.report import grid
from pipeline.weights import device_of


@dataclass(frozen=True)
class Interpolate:
    """What is drawn, and where the findings go."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run: of images."""
    out: str = ""
    """New folder of the findings; empty: interpolate-<update> in the run's."""
    pairs: int = 8
    """Pairs of starts; a row each."""
    n: int = 10
    """Images of a row, both ends counted."""
    seed: int = 0
    """Seed of the starts."""
    threads: int = 1
    """CPU threads of the process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""


def main() -> None:
    """The command."""
    asked = parse(Interpolate, sys.argv[1:], "python -m jobs.interpolate", __doc__ or "")
    if asked.pairs < 1 or asked.n < 2 or asked.seed < 0:
        raise BadInput("--pairs must be 1 or more, --n 2 or more, --seed 0 or more")
    model = opened(asked.run, asked.threads, asked.device)
    if model.data.spec.kind != "image":
        raise BadInput(f"{asked.run} is no run of images")
    findings = Findings(asked.out, f"{asked.run}/interpolate-{model.update}")
    tasks = samples.tasks(model.job.recipe, model.nets, model.data, 2 * asked.pairs, model.update, asked.seed)
    ends = torch.cat([torch.from_numpy(task.x) for task in tasks]).to(device_of(model.nets))
    z = torch.cat([interpolation(a, b, asked.n) for a, b in zip(ends[::2], ends[1::2], strict=True)])
    with torch.no_grad():
        x = generate(model.energy, model.langevin, z)
    rows = x.view(asked.pairs, asked.n, -1)
    metrics = {
        "largest_step": float((rows[:, 1:] - rows[:, :-1]).square().mean(2).amax(1).mean()),
        "end_to_end": float((rows[:, -1] - rows[:, 0]).square().mean()),
    }
    findings.result(model, asked, metrics)
    figure = Figure(figsize=(asked.n, asked.pairs))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(grid(x.cpu(), asked.n).permute(1, 2, 0))
    axes.axis("off")
    findings.figure("interpolation", figure)


if __name__ == "__main__":
    guarded(main)
