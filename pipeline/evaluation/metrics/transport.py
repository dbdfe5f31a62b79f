"""How chains of one model mix behind its flow, in z, and where the data are, in x (2006.06897).

The same density either way, of x, and of z with x = g(z): of a tilted flow exp(-U(g(z))) N(z; 0, I), without a
determinant; of any other energy with the flow's. Chains of both start at the same points, far
apart; both kernels are Hamiltonian, and their steps are tuned, by chains of their own, to the same acceptance.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor, nn

from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.evaluation.metrics.grid import grid_points
from pipeline.evaluation.metrics.mixing import autocorrelation, mixing
from pipeline.evaluation.metrics.traces import Quantities, quantities
from pipeline.nets.flow import flow_of
from pipeline.nets.weights import Nets, device_of
from pipeline.rng import fold, generator, standard_normal
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.hmc import HMC, warm_up

SPREAD = 2.0
"""Standard deviation of z where chains start, in that of N(0, I)."""
TUNED = 100
"""Chains that tune a step, from where the model's own would start."""
FEWEST = 100
"""Draws that R-hat is taken of, at least, where it is followed along the way."""


class SpaceTrajectory(NamedTuple):
    """Chains that have moved in one space, z or x."""

    hmc: HMC
    x: Float[ndarray, "chains draws *d"]
    """What they stand for, after each `every` proposals."""
    energy: Float[ndarray, "chains draws"]
    """U(x) - log q(x), the same function of x in both spaces."""
    quantities: Float[ndarray, "chains draws q"]
    acceptance_rate: float
    every: int


def space_trajectories(
    snapshot: Snapshot,
    chains: int,
    steps: int,
    every: int,
    leapfrog_steps: int,
    acceptance_rate: float,
    seed: int,
    bar: Callable[[Iterable[int], int], Iterable[int]],
) -> dict[str, SpaceTrajectory]:
    """Chains in `z` and in `x`.

    Args:
        model: an energy, with a flow.
        chains: in each space.
        steps: proposals of each.
        every: proposals between draws.
        leapfrogs: of a proposal.
        acceptance_rate: share of proposals that both steps are tuned to.
        seed: of starts, tuning and chains.
        bar: shows how far they have come.

    Raises:
        BadInput: the model has no flow, or no energy of data.
    """
    recipe, nets = snapshot.job.recipe, snapshot.nets
    in_x, device = recipe.energy(nets), device_of(nets)
    if "flow" not in nets or in_x is None:
        raise InputError(f"{snapshot.job.out}: {type(recipe).__name__} has no flow that chains could move behind")
    behind = recipe.target(recipe.sample_chain, nets, None) if recipe.chains else _behind(nets, in_x)
    what, d, found = quantities(snapshot), snapshot.data.spec.size, {}
    with torch.no_grad():
        z = SPREAD * standard_normal((chains, d), generator(fold(seed, "transport start"), device))
        tuning = standard_normal((TUNED, d), generator(fold(seed, "transport tuning"), device))
        for space, energy in (("z", behind), ("x", in_x)):
            begin, tuned = (z, tuning) if space == "z" else (nets["flow"](z), nets["flow"](tuning))
            shown = nets["flow"] if space == "z" else nn.Identity()
            rng = generator(fold(seed, space, "tuning"), device)
            hmc, _ = warm_up(HMC(1, leapfrog_steps, 0.1), energy, tuned, rng, target=acceptance_rate)
            rng = generator(fold(seed, space, "chains"), device)
            found[space] = _walked(hmc, energy, in_x, shown, what, begin, steps, every, rng, bar)
    return found


def _behind(nets: Nets, in_x: Energy) -> Energy:
    """The density exp(-energy(x)) of x = g(z), as one of z."""

    def energy(z: Tensor) -> Tensor:
        x, log_det = flow_of(nets).decode(z)
        return in_x(x) + log_det

    return energy


def _walked(
    hmc: HMC,
    energy: Energy,
    in_x: Energy,
    shown: Callable[[Tensor], Tensor],
    what: Quantities,
    state: Tensor,
    steps: int,
    every: int,
    rng: torch.Generator,
    bar: Callable[[Iterable[int], int], Iterable[int]],
) -> SpaceTrajectory:
    draws, energies, accepted = [], [], []
    kernel = HMC(every, hmc.leapfrog_steps, hmc.step_size)
    for _ in bar(range(steps // every), steps // every):
        state, stats = kernel(energy, state, rng)
        x = shown(state)
        draws.append(x.cpu())
        energies.append(in_x(x).cpu())
        accepted.append(float(stats.acceptance_rate.mean()))
    x = torch.stack(draws, 1)
    seen = what.of(x.flatten(0, 1)).double().view(*x.shape[:2], -1).numpy()
    energy_ = torch.stack(energies, 1).double().numpy()
    return SpaceTrajectory(hmc, x.numpy(), energy_, seen, float(np.mean(accepted)), every)


def mixing_by_space(found: Mapping[str, SpaceTrajectory], modes: Tensor | None) -> dict[str, float]:
    """Of each space: the worst R-hat over quantities and energy, the least bulk ESS, acceptance, step; modes visited.

    The first half of the draws is left out but for the modes, which count from the start. A chain whose proposals were
    all refused in the second half is left out too, and counted as `still`: it alone would make a high R-hat.
    """
    told = dict[str, float]()
    for space, course in found.items():
        by = mixing(second_half(course))
        told |= {
            f"rhat_{space}": float(np.max(by.rhat)),
            f"rhat_energy_{space}": float(by.rhat[0]),
            f"ess_bulk_{space}": float(np.min(by.ess_bulk)),
            f"acceptance_rate_{space}": course.acceptance_rate,
            f"step_{space}": course.hmc.step_size,
            f"stuck_chains_{space}": float((~_moved(course)).sum()),
        }
        if modes is not None:
            at = nearest_modes(course.x, modes)
            told[f"modes_{space}"] = float(np.mean([len(np.unique(own)) for own in at]))
            told[f"changes_{space}"] = float((np.diff(at, axis=1) != 0).sum(1).mean())
    return told


def second_half(course: SpaceTrajectory) -> Float[ndarray, "moved kept q"]:
    """Energy and quantities of the second half of the draws, of the chains that moved there."""
    half = course.energy.shape[1] // 2
    return np.concatenate([course.energy[..., None], course.quantities], 2)[_moved(course), half:]


def _moved(course: SpaceTrajectory) -> Bool[ndarray, " chains"]:
    half = course.energy.shape[1] // 2
    return (course.energy[:, half:] != course.energy[:, half : half + 1]).any(1)


def nearest_modes(x: Float[ndarray, "chains draws 2"], modes: Float[Tensor, "m 2"]) -> Int64[ndarray, "chains draws"]:
    """The nearest mode of each draw."""
    return np.square(x[:, :, None] - modes.numpy()).sum(3).argmin(2)


def figure(snapshot: Snapshot, found: Mapping[str, SpaceTrajectory]) -> Figure:
    """R-hat along the way, the energy's autocorrelation, and in the plane one chain's way in both spaces."""
    density = snapshot.data.density
    figure = Figure(figsize=(8 + (8 if density else 0), 3.8), layout="constrained")
    panels = figure.subplots(1, 4 if density else 2)
    for space, course in found.items():
        lengths = np.unique(np.geomspace(min(FEWEST, course.energy.shape[1]), course.energy.shape[1], 12).astype(int))
        worst = [float(np.max(mixing(second_half(_until(course, n))).rhat)) for n in lengths]
        panels[0].plot(lengths * course.every, worst, marker=".", label=f"in {space}")
        own = second_half(course)[..., 1]
        lags = np.arange(min(own.shape[1], 200))
        panels[1].plot(lags * course.every, autocorrelation(own)[: len(lags)], label=f"in {space}")
    panels[0].axhline(1.05, color="black", linewidth=0.6, linestyle="--")
    panels[0].set(xscale="log", xlabel="proposals", title="worst R-hat, second half")
    panels[1].axhline(0, color="black", linewidth=0.6, linestyle="--")
    panels[1].set(xlabel="lag, in proposals", title="autocorrelation of a coordinate, within chains")
    for axes in panels[:2]:
        axes.legend(fontsize=8)
    for axes, (space, course) in zip(panels[2:], found.items(), strict=False):
        assert density is not None
        points, extent = grid_points(density.half_width), (-density.half_width, density.half_width) * 2
        plane = (-density.energy(points)).exp().view(200, 200).T
        axes.imshow(plane, origin="lower", extent=extent, cmap="Greys", alpha=0.6)
        axes.plot(*course.x[0].T, linewidth=0.4, marker=".", markersize=1.5, color="C0" if space == "z" else "C1")
        axes.set(xlim=extent[:2], ylim=extent[:2], title=f"one chain, moved in {space}")
    return figure


def _until(course: SpaceTrajectory, draws: int) -> SpaceTrajectory:
    return course._replace(energy=course.energy[:, :draws], quantities=course.quantities[:, :draws])
