"""Run a model's chains far beyond its own K steps: whether learning converged shows there alone (1903.12370).

From noise (the run's own start), data and the bank; the distance to the data and the energy at multiples of K.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from jobs.launch import guarded, parse
from jobs.model import Findings, Model, items, opened
from pipeline.errors import BadInput
from pipeline.evaluation import samples
from pipeline.evaluation.diagnostics import along
from pipeline.report import grid
from pipeline.rng import fold, generator
from pipeline.weights import device_of

SHOWN = 25
"""Images of a sheet's panel."""


@dataclass(frozen=True)
class LongRun:
    """What is run, and where the findings go."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    out: str = ""
    """New folder of the findings; empty: long_run-<update> in the run's."""
    multiples: tuple[int, ...] = (1, 10, 100)
    """Where to look, in multiples of the run's K steps."""
    starts: tuple[Literal["noise", "data", "bank"], ...] = ("noise", "data")
    """Where chains start: the run's own noise, its data, its bank."""
    n: int = 300
    """Chains of each start."""
    seed: int = 0
    """Seed of starts and noise."""
    threads: int = 1
    """CPU threads of the process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""


def main() -> None:
    """The command."""
    asked = parse(LongRun, sys.argv[1:], "python -m jobs.long_run", __doc__ or "")
    if asked.n < 2 or asked.seed < 0 or not asked.multiples or min(asked.multiples) < 1:
        raise BadInput("--n must be 2 or more, --seed 0 or more, and --multiples 1 or more each")
    model = opened(asked.run, asked.threads, asked.device)
    findings = Findings(asked.out, f"{asked.run}/long_run-{model.update}")
    starts: dict[str, Tensor] = {start: _start(model, start, asked) for start in asked.starts}
    distance = samples.distance(model.data, device_of(model.nets))
    metrics: dict[str, float] = {}
    seen: dict[str, Tensor] = {}
    energies: dict[str, Tensor] = {}
    if distance:
        metrics[f"{distance[0]}_data"] = distance[1](items(model.data, asked.n, fold(asked.seed, "floor")))
    for start, x in starts.items():
        states, energies[start] = _moved(model, x, asked, start)
        for multiple, state in states.items():
            seen[f"{start}, {multiple} K"] = state
            if distance:
                metrics[f"{distance[0]}_{start}_{multiple}K"] = distance[1](state)
    findings.result(model, asked, metrics, energies={k: v.tolist() for k, v in energies.items()})
    findings.figure("energies", _energies(energies, model.langevin.steps))
    findings.figure("samples", _sheets(model, seen))


def _start(model: Model, start: str, asked: LongRun) -> Tensor:
    """(n, *d) states."""
    if start == "data":
        return items(model.data, asked.n, fold(asked.seed, "data"))
    if start == "bank":
        bank = model.bank()
        if bank is None:
            raise BadInput(f"--starts bank: {asked.run} has no bank")
        return bank[torch.randperm(len(bank), generator=generator(fold(asked.seed, "bank")))[: asked.n]]
    tasks = samples.tasks(model.job.recipe, model.nets, model.data, asked.n, model.update, asked.seed)
    return torch.from_numpy(np.concatenate([task.x for task in tasks]))


def _moved(model: Model, x: Tensor, asked: LongRun, start: str) -> tuple[dict[int, Tensor], Tensor]:
    """States by multiple of K, and the chains' mean energy over temperature after each K steps."""
    device, states, energies = device_of(model.nets), {}, []
    rng = generator(fold(asked.seed, "noise", start), device)
    walk = along(model.energy, model.langevin, x.to(device), max(asked.multiples), rng)
    for i, (state, energy) in enumerate(tqdm(walk, total=max(asked.multiples), desc=f"from {start}", unit="K"), 1):
        energies.append(energy.mean() / model.langevin.temperature)
        if i in asked.multiples:
            states[i] = state.cpu()
    return states, torch.stack(energies).cpu()


def _energies(energies: dict[str, Tensor], steps: int) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for start, values in energies.items():
        axes.plot(np.arange(1, len(values) + 1) * steps, values, label=f"from {start}", marker=".", markersize=3)
    axes.set(xscale="log", xlabel="Langevin steps", ylabel="mean energy / temperature", title="energy along the chains")
    axes.legend()
    return figure


def _sheets(model: Model, seen: dict[str, Tensor]) -> Figure:
    if model.data.density is not None:
        return samples.densities(model.data.density, seen, {})
    starts = list(dict.fromkeys(name.split(",")[0] for name in seen))
    columns = len(seen) // len(starts)
    figure = Figure(figsize=(2.6 * columns, 2.8 * len(starts)), layout="constrained")
    for axes, (name, x) in zip(figure.subplots(len(starts), columns, squeeze=False).flat, seen.items(), strict=True):
        axes.imshow(grid(x[:SHOWN], 5).permute(1, 2, 0))
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    return figure


if __name__ == "__main__":
    guarded(main)
