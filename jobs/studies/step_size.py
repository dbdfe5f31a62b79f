"""How near short-run chains come to the posterior, against their step size (1912.01909, section 3.3).

For each checkpoint that the run kept, E[log q(z_K) - log p(x, z_K)] in nats an item, with the log-determinant of the
chains' map: KL(q || posterior) - log p(x). And, at the newest and with the run's own step, a bound on -log p(x) by
importance weights. Items are those that --test-share held back, else some that the run learned from.
"""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from tqdm import tqdm

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import ResultFolder, SnapshotArgs, open_snapshot
from pipeline.batch import Batch
from pipeline.errors import InputError
from pipeline.evaluation.metrics.importance_bound import gaussian_log_normalizer, importance_bound, log_weights
from pipeline.nets.generator import GaussianDecoder
from pipeline.nets.weights import device_of
from pipeline.recipes.alternating_backprop import AlternatingBackprop
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot, all_snapshots
from pipeline.samplers.langevin import Langevin
from pipeline.samplers.short_run_density import push_forward


@dataclass(frozen=True)
class StepSize:
    """What is tried, and where the findings go."""

    look: SnapshotArgs
    steps_from: float = 0.01
    """The least step size tried."""
    steps_to: float = 0.2
    """The largest."""
    steps: int = 20
    """How many are tried, evenly on a logarithmic scale."""
    n: int = 100
    """Items, each with one chain."""
    bound_samples: int = 10
    """Chains an item of the bound on -log p(x); 0: no bound."""


Curve = dict[str, list[float]]
"""By name, at each step size: `divergence`, `mse`, and `stiffness` (the median over chains)."""


def main() -> None:
    """The command."""
    asked = parse(StepSize, sys.argv[1:], "python -m jobs.step_size", __doc__ or "")
    if min(asked.n, asked.steps) < 1 or asked.bound_samples < 0 or not 0 < asked.steps_from <= asked.steps_to:
        raise InputError("--n and --steps must be 1 or more, --bound-samples 0 or more, 0 < --steps-from <= --steps-to")
    model = open_snapshot(asked.look, allow_latent=True)
    if not isinstance(model.job.recipe, ShortRunInference | AlternatingBackprop):
        raise InputError(f"{asked.look.run} is no run whose posterior chains start from N(0, I) under that prior")
    if not isinstance(model.nets["generator"], GaussianDecoder):
        raise InputError(f"{asked.look.run}: its p(x|z) is no Gaussian density")
    findings = ResultFolder(asked.look, model, "step_size")
    data = model.data.test if len(model.data.test_rows) else model.data
    batch = data.batch(np.arange(min(asked.n, data.size)), device_of(model.nets))
    tried = np.geomspace(asked.steps_from, asked.steps_to, asked.steps).tolist()
    curves, own = dict[int, Curve](), dict[int, float]()
    for version in all_snapshots(model):
        own[version.update] = _kernel(version).noise
        curves[version.update] = _curve(version, batch, tried, asked.look.seed)
    metrics = {"step": own[model.update], **_best(tried, curves[model.update])}
    if asked.bound_samples:
        metrics |= _bound(model, batch, asked.bound_samples, asked.look.seed)
    found = {"items": "held back" if data is not model.data else "learned from", "steps": tried}
    findings.result(asked, metrics, **found, own=own, curves=curves)
    findings.figure("step_size", _figure(tried, curves, own))


def _kernel(model: Snapshot) -> Langevin:
    kernel = model.job.recipe.sampler("posterior", model.nets, model.update)
    assert isinstance(kernel, Langevin)
    return kernel


def _curve(model: Snapshot, batch: Batch, tried: list[float], seed: int) -> Curve:
    """The same starts and noise at every step size."""
    recipe, nets, x = model.job.recipe, model.nets, batch["x"]
    target, steps = recipe.target("posterior", nets, batch), _kernel(model).steps
    z = recipe.initial_states(
        "posterior", len(x), generator(fold(seed, "start"), x.device), nets, model.data.spec, batch
    )
    curve: Curve = {"divergence": [], "mse": [], "stiffness": []}
    for step in tqdm(tried, desc=f"update {model.update}", unit="step size"):
        rng = generator(fold(seed, "noise"), x.device)
        end, log_det, stiffness = push_forward(Langevin.textbook(steps, step), target, z, rng)
        with torch.no_grad():
            joint, error = target(end) + _normaliser(model), nets["generator"](end) - x
        curve["divergence"].append(float((joint - z.square().sum(1) / 2 - log_det).mean()))
        curve["mse"].append(float(error.square().mean()))
        curve["stiffness"].append(float(stiffness.median()))
    return curve


def _normaliser(model: Snapshot) -> float:
    return gaussian_log_normalizer(model.data.spec.size, model.job.recipe.sigma)


def _best(tried: list[float], curve: Curve) -> dict[str, float]:
    """The step size of least divergence, and what is there."""
    finite = np.where(np.isfinite(curve["divergence"]), curve["divergence"], np.inf)
    at = int(finite.argmin())
    return {"step_best": tried[at], **{f"{name}_best": values[at] for name, values in curve.items()}}


def _bound(model: Snapshot, batch: Batch, samples: int, seed: int) -> dict[str, float]:
    """The bound on -log p(x) in nats, averaged over items; what one sample gives; and the stiffness of such chains."""
    target, x = model.job.recipe.target("posterior", model.nets, batch), batch["x"]
    rng = generator(fold(seed, "bound"), x.device)
    start = model.job.recipe.initial_states("posterior", len(x), rng, model.nets, model.data.spec, batch)
    stiffness = push_forward(_kernel(model), target, start, rng).stiffness
    with tqdm(total=samples, desc="bound", unit="sample") as bar:
        log_w = log_weights(target, _kernel(model), tuple(start.shape), samples, rng, lambda: bar.update())
    nll = -importance_bound(log_w) + _normaliser(model)
    return {
        "nll_bound": float(nll.mean()),
        "nll_bound_error": float(nll.std() / len(nll) ** 0.5),
        "nll_bound_1": float(-log_w.mean()) + _normaliser(model),
        "stiffness_median": float(stiffness.median()),
        "stiffness_max": float(stiffness.max()),
    }


def _figure(tried: list[float], curves: dict[int, Curve], own: dict[int, float]) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for update, curve in curves.items():
        values, best = curve["divergence"], _best(tried, curve)
        (line,) = axes.plot(tried, values, marker=".", markersize=3, label=f"update {update}")
        axes.plot(best["step_best"], best["divergence_best"], "o", color=line.get_color())
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
