"""Quantities along long chains from several starts, and how well the chains mix; a file of them for ArviZ's plots."""

import json
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pipeline.chains.task import initial_arrays
from pipeline.evaluation.judges.classifier import why_no_classifier
from pipeline.evaluation.judges.features import classifier_features
from pipeline.evaluation.metrics.long_run import Progress
from pipeline.evaluation.metrics.mixing import Mixing, import_arviz, mixing
from pipeline.evaluation.protocol import EvaluationSetup, Measurement
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart, decode_states
from pipeline.sampling.long_chains import advance_repeatedly, can_start_from_data, tasks_by_start

COORDINATES = 16
"""Coordinates of a state that are quantities, at most."""
COMPONENTS = 8
"""Principal components of images that are quantities, at most."""
FITTED_ITEMS = 2000
"""Images that the components are fitted to, at most."""
START_MEANINGS: dict[ChainStart, str] = {
    "noise": "the recipe's initial distribution",
    "data": "items of the data",
    "bank": "states of the run's persistent chains, as its checkpoint has them",
}
FEWEST_DRAWS = 4
"""Draws that ArviZ needs."""


class Quantities(NamedTuple):
    """Scalar functions of a chain's state, whose mixing is measured beside that of the energy."""

    names: list[str]
    compute: Callable[[Tensor], Tensor]
    """Data (n, *d) decoded from states, or latent states themselves, -> (n, q)."""


class MixingTrajectory(NamedTuple):
    """The draws of several chains from each start."""

    energy: Float[ndarray, "chains draws"]
    """Energy over temperature (not over 0)."""
    quantities: Float[ndarray, "chains draws q"]
    names: list[str]
    """Names of the q quantities."""
    starts: list[ChainStart]
    """(chains,) where each chain starts."""
    warm_up: int
    """First draws, which depend on the start and are left out of statistics."""
    every: int
    """Steps between draws."""

    @property
    def after_warm_up(self) -> Float[ndarray, "chains late q"]:
        """The energy and the quantities of the draws after the warm-up."""
        return np.concatenate([self.energy[..., None], self.quantities], 2)[:, self.warm_up :]


def mixing_quantities(snapshot: Snapshot) -> Quantities:
    """The quantities of a model's chains.

    For vectors these are coordinates of the data, for states that data cannot be encoded to coordinates of the state.
    For images they are the first principal components of the training data, over their classifier's features or,
    where they have none, over pixels.
    """
    recipe, data, spec = snapshot.recipe, snapshot.data, snapshot.data.spec
    if not can_start_from_data(snapshot):
        rng = torch.Generator(snapshot.device).manual_seed(0)
        start, _ = initial_arrays(recipe, recipe.sample_chain, 1, rng, snapshot.nets, spec, None)
        d = min(COORDINATES, start[0].size)
        return Quantities([f"z{i}" for i in range(d)], lambda z: z.flatten(1)[:, :d])
    if spec.kind != "image":
        d = min(COORDINATES, spec.size)
        return Quantities([f"x{i}" for i in range(d)], lambda x: x.flatten(1)[:, :d])
    features = None if why_no_classifier(data) else classifier_features(data, snapshot.device)

    def represent(x: Tensor) -> Tensor:
        return features(x).features if features else x.flatten(1).double()

    index = np.linspace(0, data.size - 1, min(data.size, FITTED_ITEMS)).astype(np.int64)
    fitted = represent(data.batch(index)["x"])
    mean, axes = fitted.mean(0), torch.linalg.svd(fitted - fitted.mean(0), full_matrices=False).Vh[:COMPONENTS]
    return Quantities([f"component{i}" for i in range(len(axes))], lambda x: (represent(x) - mean) @ axes.T)


def mixing_trajectory(
    setup: EvaluationSetup,
    starts: Sequence[ChainStart],
    chains: int,
    draws: int,
    warm_up: int,
    every: int,
    progress: Progress,
) -> MixingTrajectory:
    """Chains from each start that the model has, with a draw every `every` steps: `warm_up` of them, then `draws`."""
    snapshot, quantities = setup.snapshot, mixing_quantities(setup.snapshot)
    has_data, total = can_start_from_data(snapshot), warm_up + draws
    by_start = tasks_by_start(snapshot, starts, chains, fold(setup.seed, "traces"))
    tasks, energies, values = [task for some in by_start.values() for task in some], [], []
    for draw in progress(advance_repeatedly(setup.pool, snapshot, tasks, every, total), total):
        energies.append(draw.energy.double().numpy() / (snapshot.sampler.temperature or 1.0))
        x = decode_states(snapshot, draw.x, setup.seed) if has_data else draw.x
        values.append(quantities.compute(x).double().numpy())
    chain_starts = [start for start in by_start for _ in range(chains)]
    return MixingTrajectory(np.stack(energies, 1), np.stack(values, 1), quantities.names, chain_starts, warm_up, every)


def mixing_metrics(
    setup: EvaluationSetup, trajectory: MixingTrajectory
) -> tuple[list[Measurement], dict[str, dict[str, float]]]:
    """The worst statistics over all quantities, and the energy's own; and the statistics of each quantity, by name."""
    draws = trajectory.after_warm_up
    names, statistics = ["energy", *trajectory.names], mixing(draws)
    starts = tuple(dict.fromkeys(trajectory.starts))
    chains, warm_up, every = len(trajectory.starts) // len(starts), trajectory.warm_up, trajectory.every
    protocol = setup.protocol("mixing", starts, chains, draws=draws.shape[1], warm_up=warm_up, every=every)
    time = float(draws.shape[0] * draws.shape[1] / statistics.ess_bulk[0] * every)
    numbers = {
        "rhat_max": _worst(statistics.rhat, max),
        "ess_bulk_min": _worst(statistics.ess_bulk, min),
        "ess_tail_min": _worst(statistics.ess_tail, min),
        "rhat_energy": float(statistics.rhat[0]),
        "ess_bulk_energy": float(statistics.ess_bulk[0]),
        "ess_tail_energy": float(statistics.ess_tail[0]),
        "autocorrelation_steps_energy": time,
    }
    by_name = {
        name: dict(zip(Mixing._fields, map(float, row), strict=True))
        for name, row in zip(names, zip(*statistics, strict=True), strict=True)
    }
    return [Measurement(name, value, protocol) for name, value in numbers.items()], by_name


def _worst(values: Float[ndarray, " q"], pick: Callable[[Any], float]) -> float:
    """Not a number if one of the values is not."""
    return math.nan if np.isnan(values).any() else float(pick(values))


def to_netcdf(trajectory: MixingTrajectory, protocol: dict[str, Any]) -> bytes:
    """A file of ArviZ's InferenceData: `energy`, and the quantities as `x`, by chain and draw; the warm-up apart.

    Beside each chain stands its `start` (noise, data or bank), beside each draw its `step`, counted from there. The
    attributes say how many draws and steps of warm-up came before the posterior's.
    """
    arviz = import_arviz()

    def group(draws: slice) -> dict[str, ndarray]:
        return {"energy": trajectory.energy[:, draws], "x": trajectory.quantities[:, draws]}

    attributes = {
        "protocol": json.dumps(protocol),
        "starts": json.dumps(trajectory.starts),
        "start_meanings": json.dumps({start: START_MEANINGS[start] for start in dict.fromkeys(trajectory.starts)}),
        "steps_per_draw": trajectory.every,
        "warmup_draws": trajectory.warm_up,
        "warmup_steps": trajectory.warm_up * trajectory.every,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "More chains")  # than draws, which is meant here
        data = arviz.from_dict(
            posterior=group(slice(trajectory.warm_up, None)),
            warmup_posterior=group(slice(0, trajectory.warm_up)) if trajectory.warm_up else None,
            save_warmup=trajectory.warm_up > 0,
            coords={"quantity": trajectory.names},
            dims={"x": ["quantity"]},
            attrs=attributes,
            posterior_attrs=attributes,
        )
    for name in data.groups():
        first = 1 + (trajectory.warm_up if name == "posterior" else 0)
        steps = (first + np.arange(data[name].sizes["draw"])) * trajectory.every
        data[name] = data[name].assign_coords(start=("chain", trajectory.starts), step=("draw", steps))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chains.nc"
        data.to_netcdf(str(path), engine="h5netcdf")
        return path.read_bytes()
