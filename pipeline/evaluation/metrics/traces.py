"""Quantities along long chains that start far apart, and how they mix; for ArviZ's own plots, a file of them."""

import json
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pipeline.evaluation.judges.features import of_classifier
from pipeline.evaluation.metrics.mixing import Mixing, mixing
from pipeline.evaluation.protocol import EvaluationSetup, Measurement
from pipeline.nets.weights import device_of
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart, decode_states
from pipeline.sampling.long_chains import Observation, advance_repeatedly, can_start_from_data, tasks_by_start

COORDINATES = 16
"""Of states that are looked at, at most."""
COMPONENTS = 8
"""Of images."""
FITTED = 2000
"""Images of the data that components are taken from, at most."""
FEWEST_DRAWS = 4
"""Draws that ArviZ takes."""

Bar = Callable[[Iterable[Observation], int], Iterable[Observation]]
"""Shows how far chains have come that are looked at so many times."""


class Quantities(NamedTuple):
    """Numbers of a chain's state, whose mixing is looked at beside that of the energy."""

    names: list[str]
    of: Callable[[Tensor], Tensor]
    """What states stand for (n, *d), or they themselves where that are no data, -> (n, q)."""


class MixingTrajectory(NamedTuple):
    """C chains of each start, seen again and again on their way."""

    energy: Float[ndarray, "chains draws"]
    """Over temperature (not over 0)."""
    quantities: Float[ndarray, "chains draws q"]
    names: list[str]
    starts: list[ChainStart]
    """(chains,) where each began."""
    warm_up: int
    """The first draws, which tell of the start and are left out of what is judged."""
    every: int
    """Steps between draws."""

    @property
    def kept(self) -> Float[ndarray, "chains kept q"]:
        """The energy and the quantities of the draws that are judged."""
        return np.concatenate([self.energy[..., None], self.quantities], 2)[:, self.warm_up :]


def quantities(snapshot: Snapshot) -> Quantities:
    """Of vectors the coordinates, of latent ones z where no data stand for them; of images the first principal
    components of the data, over their classifier's features, or where there are no labels over pixels.
    """
    recipe, data, spec = snapshot.job.recipe, snapshot.data, snapshot.data.spec
    if not can_start_from_data(snapshot):
        rng = torch.Generator(device_of(snapshot.nets)).manual_seed(0)
        d = min(COORDINATES, recipe.initial_states(recipe.sample_chain, 1, rng, snapshot.nets, spec, None)[0].numel())
        return Quantities([f"z{i}" for i in range(d)], lambda z: z.flatten(1)[:, :d])
    if spec.kind != "image":
        d = min(COORDINATES, spec.size)
        return Quantities([f"x{i}" for i in range(d)], lambda x: x.flatten(1)[:, :d])
    features = of_classifier(data, device_of(snapshot.nets)) if spec.num_classes else None

    def seen(x: Tensor) -> Tensor:
        return features(x).features if features else x.flatten(1).double()

    index = np.linspace(0, data.size - 1, min(data.size, FITTED)).astype(np.int64)
    fitted = seen(data.batch(index)["x"])
    mean, axes = fitted.mean(0), torch.linalg.svd(fitted - fitted.mean(0), full_matrices=False).Vh[:COMPONENTS]
    return Quantities([f"component{i}" for i in range(len(axes))], lambda x: (seen(x) - mean) @ axes.T)


def mixing_trajectory(
    setup: EvaluationSetup, starts: Sequence[ChainStart], chains: int, draws: int, warm_up: int, every: int, bar: Bar
) -> MixingTrajectory:
    """C chains of each start that the model has, a draw each `every` steps, `warm_up` of them before those judged."""
    snapshot, what, has_data = setup.snapshot, quantities(setup.snapshot), can_start_from_data(setup.snapshot)
    begun = tasks_by_start(snapshot, starts, chains, fold(setup.seed, "traces"))
    tasks, energies, seen = [task for some in begun.values() for task in some], [], []
    for draw in bar(advance_repeatedly(setup.pool, snapshot, tasks, every, warm_up + draws), warm_up + draws):
        energies.append(draw.energy.double().numpy() / (snapshot.sampler.temperature or 1.0))
        x = decode_states(snapshot.job.recipe, snapshot.nets, draw.x, setup.seed) if has_data else draw.x
        seen.append(what.of(x).double().numpy())
    of = [start for start in begun for _ in range(chains)]
    return MixingTrajectory(np.stack(energies, 1), np.stack(seen, 1), what.names, of, warm_up, every)


def mixing_metrics(
    setup: EvaluationSetup, found: MixingTrajectory
) -> tuple[list[Measurement], dict[str, dict[str, float]]]:
    """The worst of all quantities and the energy's own; and R-hat, bulk and tail ESS of each."""
    kept = found.kept
    names, by = ["energy", *found.names], mixing(kept)
    starts = tuple(dict.fromkeys(found.starts))
    protocol = setup.protocol(
        "mixing",
        starts,
        len(found.starts) // len(starts),
        draws=kept.shape[1],
        warm_up=found.warm_up,
        every=found.every,
    )
    time = kept.shape[0] * kept.shape[1] / by.ess_bulk[0] * found.every
    worst = {
        "rhat_max": _worst(by.rhat, max),
        "ess_bulk_min": _worst(by.ess_bulk, min),
        "ess_tail_min": _worst(by.ess_tail, min),
        "rhat_energy": float(by.rhat[0]),
        "ess_bulk_energy": float(by.ess_bulk[0]),
        "ess_tail_energy": float(by.ess_tail[0]),
        "autocorrelation_steps_energy": float(time),
    }
    each = {
        name: dict(zip(Mixing._fields, map(float, row), strict=True))
        for name, row in zip(names, zip(*by, strict=True), strict=True)
    }
    return [Measurement(name, value, protocol) for name, value in worst.items()], each


def _worst(values: Float[ndarray, " q"], of: Callable[[Any], float]) -> float:
    """Not a number if one is not."""
    return math.nan if np.isnan(values).any() else float(of(values))


def netcdf(found: MixingTrajectory, protocol: dict[str, Any]) -> bytes:
    """A file of ArviZ's InferenceData: `energy` and the quantities as `x`, by chain and draw, and the warm-up apart."""
    import arviz  # here, since it takes three seconds that --help need not wait for

    def part(some: slice) -> dict[str, ndarray]:
        return {"energy": found.energy[:, some], "x": found.quantities[:, some]}

    about = {"protocol": json.dumps(protocol), "starts": json.dumps(found.starts), "steps_per_draw": found.every}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "More chains")  # than draws: they are not mistaken for each other here
        data = arviz.from_dict(
            posterior=part(slice(found.warm_up, None)),
            warmup_posterior=part(slice(0, found.warm_up)) if found.warm_up else None,
            save_warmup=found.warm_up > 0,
            coords={"quantity": found.names},
            dims={"x": ["quantity"]},
            attrs=about,
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chains.nc"
        data.to_netcdf(str(path), engine="h5netcdf")
        return path.read_bytes()
