"""How chains mix in a flow's latent space z and in data space x, under the same density (Nijkamp et al., 2006.06897).

With x = g(z), the density in z is exp(-U(g(z))) N(z; 0, I) where the model is a tilted flow, which needs no
determinant; otherwise the flow's log-determinant enters. Chains of both spaces start from the same points, far apart.
Both kernels are Hamiltonian, and pilot chains tune their step sizes to the same acceptance rate.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy import ndarray
from torch import Tensor, nn

from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.evaluation.metrics.mixing import mixing
from pipeline.evaluation.metrics.mixing_trajectories import mixing_quantities
from pipeline.nets.flow import flow_of
from pipeline.nets.weights import Nets, device_of
from pipeline.rng import fold, generator, standard_normal
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.hmc import HMC, warm_up

START_SCALE = 2.0
"""Standard deviation of the z that chains start from, where N(0, I) has 1."""
PILOT_CHAINS = 100
"""Chains that tune a step size, from where the model's own would start."""


class SpaceTrajectory(NamedTuple):
    """Chains that moved in one space, z or x."""

    hmc: HMC
    x: Float[ndarray, "chains draws *d"]
    """Their data, after each `every` proposals."""
    energy: Float[ndarray, "chains draws"]
    """The model's energy of x, the same function in both spaces."""
    quantities: Float[ndarray, "chains draws q"]
    acceptance_rate: float
    every: int
    """Proposals between draws."""


def space_trajectories(
    snapshot: Snapshot,
    chains: int,
    steps: int,
    every: int,
    leapfrog_steps: int,
    acceptance_rate: float,
    seed: int,
    progress: Callable[[range], Iterable[int]],
) -> dict[str, SpaceTrajectory]:
    """Chains in `z` and in `x`.

    Args:
        snapshot: a model with an energy of data, and a flow.
        chains: in each space.
        steps: proposals per chain.
        every: proposals between draws.
        leapfrog_steps: per proposal.
        acceptance_rate: that both step sizes are tuned to.
        seed: of starts, tuning and chains.
        progress: shows the progress of a space's chains, by draws.

    Raises:
        InputError: the model has no flow, or no energy of data.
    """
    recipe, nets = snapshot.recipe, snapshot.nets
    data_energy, device = recipe.energy(nets), device_of(nets)
    if "flow" not in nets or data_energy is None:
        why = f"{type(recipe).__name__} has no flow in whose latent space chains could move"
        raise InputError(why, "run", snapshot.job.out)
    latent = recipe.target(recipe.sample_chain, nets, None) if recipe.chains else _latent_energy(nets, data_energy)
    quantities, d, result = mixing_quantities(snapshot), snapshot.data.spec.size, {}
    with torch.no_grad():
        z = START_SCALE * standard_normal((chains, d), generator(fold(seed, "transport start"), device))
        pilot = standard_normal((PILOT_CHAINS, d), generator(fold(seed, "transport tuning"), device))
        for space, energy in (("z", latent), ("x", data_energy)):
            start, pilot_start = (z, pilot) if space == "z" else (nets["flow"](z), nets["flow"](pilot))
            to_data = nets["flow"] if space == "z" else nn.Identity()
            rng = generator(fold(seed, space, "tuning"), device)
            hmc, _ = warm_up(HMC(1, leapfrog_steps, 0.1), energy, pilot_start, rng, target=acceptance_rate)
            kernel, rng = HMC(every, hmc.leapfrog_steps, hmc.step_size), generator(fold(seed, space, "chains"), device)
            draws = progress(range(steps // every))
            x, energies, rate = _run(kernel, energy, data_energy, to_data, start, draws, rng)
            values = quantities.compute(x.flatten(0, 1)).double().view(chains, steps // every, -1).numpy()
            result[space] = SpaceTrajectory(hmc, x.numpy(), energies, values, rate, every)
    return result


def _latent_energy(nets: Nets, data_energy: Energy) -> Energy:
    """The energy of z under which x = g(z) has density exp(-energy(x))."""

    def energy(z: Tensor) -> Tensor:
        x, log_det = flow_of(nets).decode(z)
        return data_energy(x) + log_det

    return energy


def _run(
    kernel: HMC,
    energy: Energy,
    data_energy: Energy,
    to_data: Callable[[Tensor], Tensor],
    state: Tensor,
    draws: Iterable[int],
    rng: torch.Generator,
) -> tuple[Tensor, ndarray, float]:
    """Data (chains, draws, d) and their energies after each call of the kernel; and the acceptance rate."""
    data, energies, rates = [], [], []
    for _ in draws:
        state, stats = kernel(energy, state, rng)
        x = to_data(state)
        data.append(x.cpu())
        energies.append(data_energy(x).cpu())
        rates.append(float(stats.acceptance_rate.mean()))
    return torch.stack(data, 1), torch.stack(energies, 1).double().numpy(), float(np.mean(rates))


def mixing_by_space(trajectories: Mapping[str, SpaceTrajectory], modes: Tensor | None) -> dict[str, float]:
    """By space: greatest R-hat and least bulk ESS over energy and quantities, acceptance, step size, visited modes.

    R-hat and ESS are over the second half of the draws, modes over all. A chain whose proposals were all rejected in
    the second half would by itself make R-hat high: it is left out, and counted in `stuck_chains_<space>`.
    """
    result = dict[str, float]()
    for space, trajectory in trajectories.items():
        statistics = mixing(second_half(trajectory))
        result |= {
            f"rhat_max_{space}": float(np.max(statistics.rhat)),
            f"rhat_energy_{space}": float(statistics.rhat[0]),
            f"ess_bulk_min_{space}": float(np.min(statistics.ess_bulk)),
            f"acceptance_rate_{space}": trajectory.acceptance_rate,
            f"step_size_{space}": trajectory.hmc.step_size,
            f"stuck_chains_{space}": float((~_has_moved(trajectory)).sum()),
        }
        if modes is not None:
            nearest = nearest_modes(trajectory.x, modes)
            result[f"modes_{space}"] = float(np.mean([len(np.unique(chain)) for chain in nearest]))
            result[f"mode_changes_{space}"] = float((np.diff(nearest, axis=1) != 0).sum(1).mean())
    return result


def second_half(trajectory: SpaceTrajectory) -> Float[ndarray, "moving late q"]:
    """Energy and quantities in the second half of the draws, of the chains that moved in it."""
    draws = np.concatenate([trajectory.energy[..., None], trajectory.quantities], 2)
    return draws[_has_moved(trajectory), trajectory.energy.shape[1] // 2 :]


def _has_moved(trajectory: SpaceTrajectory) -> Bool[ndarray, " chains"]:
    half = trajectory.energy.shape[1] // 2
    return (trajectory.energy[:, half:] != trajectory.energy[:, half : half + 1]).any(1)


def nearest_modes(x: Float[ndarray, "chains draws 2"], modes: Float[Tensor, "m 2"]) -> Int64[ndarray, "chains draws"]:
    """The index of the mode nearest to each draw."""
    return np.square(x[:, :, None] - modes.numpy()).sum(3).argmin(2)


def first_draws(trajectory: SpaceTrajectory, n: int) -> SpaceTrajectory:
    """The trajectory as it was after n draws; x stays whole."""
    return trajectory._replace(energy=trajectory.energy[:, :n], quantities=trajectory.quantities[:, :n])
