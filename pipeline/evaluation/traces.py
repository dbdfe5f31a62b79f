"""Quantities along long chains that start far apart, and how they mix; for ArviZ's own plots, a file of them."""

import json
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from pipeline.evaluation import samples
from pipeline.evaluation.features import of_classifier
from pipeline.evaluation.mixing import Mixing, autocorrelation, mixing
from pipeline.evaluation.protocol import Bench, Measured
from pipeline.evaluation.walk import Seen, Start, from_data, together, walked
from pipeline.model import Model
from pipeline.rng import fold
from pipeline.weights import device_of

COORDINATES = 16
"""Of states that are looked at, at most."""
COMPONENTS = 8
"""Of images."""
FITTED = 2000
"""Images of the data that components are taken from, at most."""
LEAST = 4
"""Draws that ArviZ takes."""

Bar = Callable[[Iterable[Seen], int], Iterable[Seen]]
"""Shows how far chains have come that are looked at so many times."""


class Quantities(NamedTuple):
    """Numbers of a chain's state, whose mixing is looked at beside that of the energy."""

    names: list[str]
    of: Callable[[Tensor], Tensor]
    """What states stand for (n, *d), or they themselves where that are no data, -> (n, q)."""


class Traces(NamedTuple):
    """C chains of each start, seen again and again on their way."""

    energy: Float[ndarray, "chains draws"]
    """Over temperature (not over 0)."""
    quantities: Float[ndarray, "chains draws q"]
    names: list[str]
    starts: list[Start]
    """(chains,) where each began."""
    warm_up: int
    """The first draws, which tell of the start and are left out of what is judged."""
    every: int
    """Steps between draws."""

    @property
    def kept(self) -> Float[ndarray, "chains kept q"]:
        """The energy and the quantities of the draws that are judged."""
        return np.concatenate([self.energy[..., None], self.quantities], 2)[:, self.warm_up :]


def quantities(model: Model) -> Quantities:
    """Of vectors the coordinates, of latent ones z where no data stand for them; of images the first principal
    components of the data, over their classifier's features, or where there are no labels over pixels.
    """
    recipe, data, spec = model.job.recipe, model.data, model.data.spec
    if not from_data(model):
        rng = torch.Generator(device_of(model.nets)).manual_seed(0)
        items = {stream: data.batch(np.arange(1), rng.device) for stream in recipe.streams}
        d = min(COORDINATES, recipe.start(recipe.model, 1, rng, model.nets, items)[0].numel())
        return Quantities([f"z{i}" for i in range(d)], lambda z: z.flatten(1)[:, :d])
    if spec.kind != "image":
        d = min(COORDINATES, spec.size)
        return Quantities([f"x{i}" for i in range(d)], lambda x: x.flatten(1)[:, :d])
    features = of_classifier(data, device_of(model.nets)) if spec.classes else None

    def seen(x: Tensor) -> Tensor:
        return features(x).features if features else x.flatten(1).double()

    index = np.linspace(0, data.size - 1, min(data.size, FITTED)).astype(np.int64)
    fitted = seen(data.batch(index)["x"])
    mean, axes = fitted.mean(0), torch.linalg.svd(fitted - fitted.mean(0), full_matrices=False).Vh[:COMPONENTS]
    return Quantities([f"component{i}" for i in range(len(axes))], lambda x: (seen(x) - mean) @ axes.T)


def traces(
    bench: Bench, starts: Sequence[Start], chains: int, draws: int, warm_up: int, every: int, bar: Bar
) -> Traces:
    """C chains of each start that the model has, a draw each `every` steps, `warm_up` of them before those judged."""
    model, what, has_data = bench.model, quantities(bench.model), from_data(bench.model)
    begun = together(model, starts, chains, fold(bench.seed, "traces"))
    tasks, energies, seen = [task for some in begun.values() for task in some], [], []
    for draw in bar(walked(bench.pool, model, tasks, every, warm_up + draws), warm_up + draws):
        energies.append(draw.energy.double().numpy() / (model.kernel.temperature or 1.0))
        x = samples.decoded(model.job.recipe, model.nets, draw.x, bench.seed) if has_data else draw.x
        seen.append(what.of(x).double().numpy())
    of = [start for start in begun for _ in range(chains)]
    return Traces(np.stack(energies, 1), np.stack(seen, 1), what.names, of, warm_up, every)


def mixed(bench: Bench, found: Traces) -> tuple[list[Measured], dict[str, dict[str, float]]]:
    """The worst of all quantities and the energy's own; and R-hat, bulk and tail ESS of each."""
    kept = found.kept
    names, by = ["energy", *found.names], mixing(kept)
    starts = tuple(dict.fromkeys(found.starts))
    protocol = bench.protocol(
        "mixing",
        starts,
        len(found.starts) // len(starts),
        draws=kept.shape[1],
        warm_up=found.warm_up,
        every=found.every,
    )
    time = kept.shape[0] * kept.shape[1] / by.ess_bulk[0] * found.every
    worst = {
        "rhat_worst": _worst(by.rhat, max),
        "ess_bulk_worst": _worst(by.ess_bulk, min),
        "ess_tail_worst": _worst(by.ess_tail, min),
        "rhat_energy": float(by.rhat[0]),
        "ess_bulk_energy": float(by.ess_bulk[0]),
        "ess_tail_energy": float(by.ess_tail[0]),
        "autocorrelation_steps_energy": float(time),
    }
    each = {
        name: dict(zip(Mixing._fields, map(float, row), strict=True))
        for name, row in zip(names, zip(*by, strict=True), strict=True)
    }
    return [Measured(name, value, protocol) for name, value in worst.items()], each


def _worst(values: Float[ndarray, " q"], of: Callable[[Any], float]) -> float:
    """Not a number if one is not."""
    return math.nan if np.isnan(values).any() else float(of(values))


def netcdf(found: Traces, protocol: dict[str, Any]) -> bytes:
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


def figure(found: Traces, each: Mapping[str, Mapping[str, float]]) -> Figure:
    """Energies of some chains of each start along their way, their autocorrelation, and R-hat of each quantity."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    trace, correlation, rhat = figure.subplots(1, 3)
    steps = (np.arange(found.energy.shape[1]) + 1) * found.every
    for i, start in enumerate(dict.fromkeys(found.starts)):
        own = found.energy[np.array(found.starts) == start]
        for j, energy in enumerate(own[:4]):
            trace.plot(steps, energy, color=f"C{i}", linewidth=0.6, label=None if j else f"from {start}")
        kept = own[:, found.warm_up :]
        lags = np.arange(min(kept.shape[1], 100))
        correlation.plot(lags * found.every, autocorrelation(kept)[: len(lags)], color=f"C{i}", label=f"from {start}")
    trace.axvspan(0, found.warm_up * found.every, color="black", alpha=0.07, label="warm-up")
    trace.set(xlabel="Langevin steps", ylabel="energy / temperature", title="energy of some chains")
    correlation.axhline(0, color="black", linewidth=0.6, linestyle="--")
    correlation.set(xlabel="lag, in Langevin steps", title="autocorrelation of the energy, within chains")
    rhat.bar(list(each), [one["rhat"] - 1 for one in each.values()], bottom=1)
    rhat.axhline(1.01, color="black", linewidth=0.6, linestyle="--")
    rhat.set(title="R-hat (mixed: below 1.01)")
    rhat.tick_params(axis="x", rotation=90)
    for axes in (trace, correlation):
        axes.legend(fontsize=8)
    return figure
