"""How close short-run chains come to the posterior, by their step size (1912.01909, section 3.3).

For each checkpoint of the run: E[log q(z_K) - log p(x, z_K)] in nats per item, with the log-determinant of the chains'
map, which is KL(q || posterior) - log p(x). At the newest, with the run's own step size, also a bound on -log p(x) by
importance weights. Items are those held out by --test-share, or training items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, open_snapshot, own_items, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from pipeline.batch import Batch
from pipeline.errors import InputError
from pipeline.evaluation.metrics.importance_bound import gaussian_log_normalizer, importance_bound, log_weights
from pipeline.nets.generator import GaussianDecoder
from pipeline.recipes.alternating_backprop import AlternatingBackprop
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot, all_snapshots
from pipeline.samplers.langevin import Langevin
from pipeline.samplers.short_run_density import push_forward
from pipeline.settings import Count, Positive, PositiveInt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHAIN = "posterior"
"""The chain that both recipes infer latent vectors with."""


@dataclass(frozen=True)
class StepSize(SnapshotArgs):
    """The run, and the step sizes."""

    smallest: Positive = 0.01
    """Smallest step size."""
    largest: Positive = 0.2
    """Largest step size."""
    sizes: PositiveInt = 20
    """Number of step sizes, evenly spaced on a logarithmic scale."""
    n: PositiveInt = 100
    """Items, each with one chain."""
    bound_samples: Count = 10
    """Chains per item for the bound on -log p(x); 0: no bound."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smallest > self.largest:
            raise InputError(f"must not be above the largest, {self.largest}", "smallest", self.smallest)


Curve = dict[str, list[float]]
"""At each step size: `divergence`, `mse`, and `stiffness` (the median over chains)."""


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(StepSize, argv, "python -m jobs.studies.step_size", __doc__ or "")
    snapshot = open_snapshot(args, needs_energy=False)
    _check(args, snapshot)
    folder, seed = ResultFolder(args, snapshot, "step_size"), seed_of(args, snapshot)
    data, origin = own_items(snapshot)
    batch = data.batch(np.arange(min(args.n, data.size)), snapshot.device)
    sizes = np.geomspace(args.smallest, args.largest, args.sizes).tolist()
    curves, own = dict[int, Curve](), dict[int, float]()
    for one in all_snapshots(snapshot):
        own[one.update] = _kernel(one).noise
        curves[one.update] = _curve(one, batch, sizes, seed)
    metrics = {"step_size": own[snapshot.update], **_best(sizes, curves[snapshot.update])}
    if args.bound_samples:
        metrics |= _bound(snapshot, batch, args.bound_samples, seed)
    folder.result(args, metrics, items=origin, step_sizes=sizes, own=own, curves=curves)
    folder.figure("step_size", _figure(sizes, curves, own))


def _check(args: StepSize, snapshot: Snapshot) -> None:
    recipe = snapshot.recipe
    if not isinstance(recipe, ShortRunInference | AlternatingBackprop):
        raise InputError("its model has no posterior chains that start from a prior N(0, I)", "run", args.run)
    if not isinstance(recipe.likelihood(snapshot.nets).decoder, GaussianDecoder):
        raise InputError("its p(x|z) is not a Gaussian density", "run", args.run)


def _kernel(snapshot: Snapshot) -> Langevin:
    """The posterior's, with the run's own step size."""
    return snapshot.recipe.sampler(CHAIN, snapshot.nets, snapshot.update)


def _curve(snapshot: Snapshot, batch: Batch, sizes: list[float], seed: int) -> Curve:
    """The same starts and noise at every step size."""
    recipe, nets, x = snapshot.recipe, snapshot.nets, batch["x"]
    target, steps, decoder = recipe.target(CHAIN, nets, batch), _kernel(snapshot).steps, recipe.likelihood(nets).decoder
    rng = generator(fold(seed, "start"), x.device)
    z = recipe.initial_states(CHAIN, len(x), rng, nets, snapshot.data.spec, batch)
    curve: Curve = {"divergence": [], "mse": [], "stiffness": []}
    for size in tqdm(sizes, desc=f"update {snapshot.update}", unit="step size"):
        rng = generator(fold(seed, "noise"), x.device)
        end, log_det, stiffness = push_forward(Langevin.textbook(steps, size), target, z, rng)
        with torch.no_grad():
            joint, error = target(end) + _log_normalizer(snapshot), decoder.sample(end, rng) - x
        curve["divergence"].append(float((joint - z.square().sum(1) / 2 - log_det).mean()))
        curve["mse"].append(float(error.square().mean()))
        curve["stiffness"].append(float(stiffness.median()))
    return curve


def _log_normalizer(snapshot: Snapshot) -> float:
    return gaussian_log_normalizer(snapshot.data.spec.size, snapshot.recipe.sigma)


def _best(sizes: list[float], curve: Curve) -> dict[str, float]:
    """The step size of least divergence, and the curve there."""
    finite = np.where(np.isfinite(curve["divergence"]), curve["divergence"], np.inf)
    best = int(finite.argmin())
    return {"step_size_best": sizes[best], **{f"{name}_best": values[best] for name, values in curve.items()}}


def _bound(snapshot: Snapshot, batch: Batch, samples: int, seed: int) -> dict[str, float]:
    """The bound on -log p(x) in nats, averaged over items; that of one sample; and the stiffness of such chains."""
    recipe, nets, x = snapshot.recipe, snapshot.nets, batch["x"]
    target, kernel, rng = recipe.target(CHAIN, nets, batch), _kernel(snapshot), generator(fold(seed, "bound"), x.device)
    start = recipe.initial_states(CHAIN, len(x), rng, nets, snapshot.data.spec, batch)
    stiffness = push_forward(kernel, target, start, rng).stiffness
    with tqdm(total=samples, desc="bound", unit="sample") as bar:
        log_w = log_weights(target, kernel, tuple(start.shape), samples, rng, lambda: bar.update())
    nll = -importance_bound(log_w) + _log_normalizer(snapshot)
    return {
        "nll_bound": float(nll.mean()),
        "nll_bound_error": float(nll.std() / len(nll) ** 0.5),
        "nll_bound_1": float(-log_w.mean()) + _log_normalizer(snapshot),
        "stiffness_median": float(stiffness.median()),
        "stiffness_max": float(stiffness.max()),
    }


def _figure(sizes: list[float], curves: dict[int, Curve], own: dict[int, float]) -> "Figure":
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for update, curve in curves.items():
        values, best = curve["divergence"], _best(sizes, curve)
        (line,) = axes.plot(sizes, values, marker=".", markersize=3, label=f"update {update}")
        axes.plot(best["step_size_best"], best["divergence_best"], "o", color=line.get_color())
        axes.axvline(own[update], color=line.get_color(), linestyle=":", linewidth=1)
    least = min(min(c["divergence"]) for c in curves.values())
    start = max(c["divergence"][0] for c in curves.values())
    axes.set(xscale="log", ylim=(least - 0.05 * (start - least), start), xlabel="step size s (dotted: the run's own)")
    axes.set(ylabel="E[log q - log p(x, z)], nats", title="divergence of short-run chains; least at the dots")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.legend()
    return figure


if __name__ == "__main__":
    run_command(main)
