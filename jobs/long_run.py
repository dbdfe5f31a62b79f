"""Run a model's chains far beyond its own K steps: whether learning converged shows there alone (1903.12370).

From noise (the run's own start), data and the bank; the distance to the data and the energy at multiples of K. States
that are latent vectors are decoded: at 0 K that is what the generator makes of N(0, I), without the learned prior.
"""

import math
import sys
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from jobs.launch import guarded, parse
from jobs.model import Findings, Look, items, opened
from pipeline.errors import BadInput
from pipeline.evaluation import likelihood, samples
from pipeline.evaluation.diagnostics import along
from pipeline.model import Model
from pipeline.report import grid
from pipeline.rng import fold, generator
from pipeline.weights import device_of

SHOWN = 25
"""Images of a sheet's panel."""


@dataclass(frozen=True)
class LongRun:
    """What is run, and where the findings go."""

    look: Look
    multiples: tuple[float, ...] = (1, 10, 100)
    """Where to look, in multiples of the run's K steps; 0: at the start."""
    starts: tuple[Literal["noise", "data", "bank"], ...] = ("noise", "data")
    """Where chains start: the run's own noise, its data (not where states are latent vectors), its bank."""
    n: int = 300
    """Chains of each start."""


def main() -> None:
    """The command."""
    asked = parse(LongRun, sys.argv[1:], "python -m jobs.long_run", __doc__ or "")
    if asked.n < 2 or not asked.starts or min(asked.multiples, default=-1) < 0 or not max(asked.multiples):
        raise BadInput("--n must be 2 or more, --multiples 0 or more each and not all 0, --starts not empty")
    model = opened(asked.look, latent=True)
    if model.langevin.steps == 0:
        raise BadInput(f"{asked.look.run}: its model draws from N(0, I), and no chain moves that")
    starts: dict[str, Tensor] = {start: _start(model, start, asked) for start in asked.starts}
    findings = Findings(asked.look, model, "long_run")
    distance = samples.distance(model.data, device_of(model.nets))
    metrics: dict[str, float] = {}
    seen: dict[str, Tensor] = {}
    energies: dict[str, Tensor] = {}
    if distance:
        metrics[f"{distance.name}_data"] = distance.of(items(model.data, asked.n, fold(asked.look.seed, "floor")))
    for start, x in starts.items():
        states, energies[start] = _moved(model, x, asked, start)
        for multiple, state in states.items():
            seen[f"{start}, {multiple:g} K"] = state
            if distance:
                metrics[f"{distance.name}_{start}_{multiple:g}K"] = distance.of(state)
    findings.result(asked, metrics, energies={k: v.tolist() for k, v in energies.items()})
    findings.figure("energies", _energies(energies, _unit(model, asked)))
    if distance:
        findings.figure("distances", _distances(metrics, distance.name, asked, model.langevin.steps))
    if model.data.density is not None or model.data.spec.kind == "image":
        findings.figure("samples", _sheets(model, seen))


def _start(model: Model, start: str, asked: LongRun) -> Tensor:
    """(n, *d) states."""
    if start == "data":
        if model.job.recipe.energy(model.nets) is None:
            raise BadInput(f"--starts data: the states of {asked.look.run} are latent vectors; use --starts noise")
        return items(model.data, asked.n, fold(asked.look.seed, "data"))
    if start == "bank":
        bank = model.bank
        if bank is None:
            raise BadInput(f"--starts bank: {asked.look.run} has no bank")
        return bank[torch.randperm(len(bank), generator=generator(fold(asked.look.seed, "bank")))[: asked.n]]
    recipe, nets = model.job.recipe, model.nets
    return samples.starts(samples.tasks(recipe, nets, model.data, asked.n, model.update, asked.look.seed))


def _unit(model: Model, asked: LongRun) -> int:
    """Steps between energies: K, or what makes every multiple a whole number of steps."""
    return math.gcd(model.langevin.steps, *(round(m * model.langevin.steps) for m in asked.multiples))


def _moved(model: Model, x: Tensor, asked: LongRun, start: str) -> tuple[dict[float, Tensor], Tensor]:
    """Data by multiple of K, and the chains' mean energy over temperature (not over 0) after each unit of steps."""
    device, langevin, unit, energies = device_of(model.nets), model.langevin, _unit(model, asked), []
    rng = generator(fold(asked.look.seed, "noise", start), device)
    wanted = {round(m * langevin.steps) // unit: m for m in asked.multiples}
    states = {wanted[0]: x} if 0 in wanted else {}
    walk = along(model.energy, replace(langevin, steps=unit), x.to(device), max(wanted), rng)
    for i, (state, energy) in enumerate(tqdm(walk, total=max(wanted), desc=f"from {start}", unit=f"{unit} steps"), 1):
        energies.append(energy.mean() / (langevin.temperature or 1.0))
        if i in wanted:
            states[wanted[i]] = state.cpu()
    decoded = {m: samples.decoded(model.job.recipe, model.nets, z, asked.look.seed) for m, z in states.items()}
    return decoded, torch.stack(energies).cpu()


def _energies(energies: dict[str, Tensor], steps: int) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for start, values in energies.items():
        axes.plot(np.arange(1, len(values) + 1) * steps, values, label=f"from {start}", marker=".", markersize=3)
    axes.set(xscale="log", xlabel="Langevin steps", ylabel="mean energy / temperature", title="energy along the chains")
    axes.legend()
    return figure


def _distances(metrics: dict[str, float], name: str, asked: LongRun, steps: int) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes, multiples = figure.subplots(), sorted(asked.multiples)
    for start in asked.starts:
        values = [metrics[f"{name}_{start}_{m:g}K"] for m in multiples]
        axes.plot([m * steps for m in multiples], values, label=f"from {start}", marker=".")
    axes.axhline(metrics[f"{name}_data"], color="black", linewidth=0.6, linestyle="--", label="as many of the data")
    axes.set(xscale="symlog", yscale="log", xlabel="Langevin steps", ylabel=name, title="distance to the data")
    axes.legend()
    return figure


def _sheets(model: Model, seen: dict[str, Tensor]) -> Figure:
    if model.data.density is not None:
        points = likelihood.grid(model.data.density.half)
        planes = {name: likelihood.kde_log_density(x, points) for name, x in seen.items()}
        return samples.densities(model.data.density, planes)
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
