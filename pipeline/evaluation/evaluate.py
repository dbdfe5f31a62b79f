"""evaluate(snapshot, pool, ...): what a model is worth, by groups of metrics; every number carries its protocol.

A run ends with it and `jobs.evaluate` calls it, so the same name under the same protocol is the same number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from torch import Tensor

from pipeline.chains.local_pool import Pool
from pipeline.evaluation import figures
from pipeline.evaluation.comparison import (
    Comparison,
    compare_samples,
    comparisons,
    default_comparison,
    measurements,
)
from pipeline.evaluation.convergence import figures as convergence_figures
from pipeline.evaluation.convergence import verdict
from pipeline.evaluation.convergence.evidence import default_chains, gather_evidence
from pipeline.evaluation.metrics.few_labels import SPREAD_ITEMS, label_spreading_accuracy, majority_share
from pipeline.evaluation.metrics.items import detection_metrics, find_held_out
from pipeline.evaluation.metrics.log_likelihood import grid_metrics, likelihood_metrics
from pipeline.evaluation.metrics.long_run import Progress, long_run_metrics, stride
from pipeline.evaluation.metrics.mixing_trajectories import MixingTrajectory, mixing_metrics, mixing_trajectory
from pipeline.evaluation.metrics.perplexity import sentence_nll
from pipeline.evaluation.options import EvaluationOptions, Group
from pipeline.evaluation.plan import EvaluationPlan, available_starts, dataset_of_split, plan_evaluation
from pipeline.evaluation.protocol import EvaluationSetup, MapFunction, Measurement, Split
from pipeline.precision import at_precision
from pipeline.progress import ProgressBar, bars_from, track
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import class_tasks, decode_states, final_states, run_tasks
from pipeline.sampling.posterior import item_metrics, posterior_tasks

if TYPE_CHECKING:  # matplotlib is imported when a figure is drawn
    from matplotlib.figure import Figure

CLASS_SAMPLES = 10
"""Samples per class in the grid of classes."""


@dataclass
class Evaluation:
    """The measurements of an evaluation, and its figures, images and sentences.

    >>> from pipeline import ShortRun, fit
    >>> fit(ShortRun(width=8), "rings", 2, progress=False).evaluate(["grid"]).measurements[0].name
    'log_z_grid'
    """

    measurements: list[Measurement] = field(default_factory=list)
    figures: dict[str, Callable[[], "Figure"]] = field(default_factory=dict)
    """By name; drawn when called."""
    images: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    """Images (n, c, h, w) and the number of columns, by name."""
    sentences: dict[str, list[str]] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    """Details beside the metrics, for result.json."""
    trajectory: MixingTrajectory | None = None
    """The chains of mixing, for export."""


def evaluate(
    snapshot: Snapshot,
    pool: Pool,
    groups: Sequence[Group] = (),
    options: EvaluationOptions = EvaluationOptions(),
    *,
    seed: int | None = None,
    progress: Callable[..., ProgressBar] | None = None,
    map_function: MapFunction = map,
) -> Evaluation:
    """Measure a model.

    Args:
        snapshot: the model.
        pool: moves its chains; the numbers do not depend on it.
        groups: of metrics; empty: all that the model allows.
        options: what is measured, and how.
        seed: of all chains; None: the run's own.
        progress: makes progress bars (tqdm's interface); None: none are shown.
        map_function: spreads the computation of features.

    Raises:
        InputError: a group that is asked for is impossible, or the options do not fit the run.

    >>> from pipeline import ShortRun, fit
    >>> from pipeline.chains.local_pool import LocalPool
    >>> snapshot = fit(ShortRun(width=8), "rings", 2, progress=False).snapshot
    >>> [one.name for one in evaluate(snapshot, LocalPool(snapshot.recipe, snapshot.nets), ["grid"]).measurements]
    ['log_z_grid', 'log_likelihood_grid', 'grid_kl']
    """
    seed = snapshot.job.seed if seed is None else seed
    plan = plan_evaluation(snapshot, groups, options)
    with bars_from(progress), at_precision("highest", snapshot.device):
        return _measure(plan, _setups(snapshot, pool, seed, map_function), options)


def _measure(plan: EvaluationPlan, setups: dict[Split, EvaluationSetup], options: EvaluationOptions) -> Evaluation:
    main = setups[options.split or "data"]
    items = setups[options.split or ("test" if "test" in setups else "data")]
    ways = comparisons(main, plan.features, options.reference) if {"samples", "long-run"} & set(plan.groups) else []
    result = Evaluation()
    measure: dict[Group, Callable[[], None]] = {
        "samples": lambda: _samples(result, main, ways, options),
        "grid": lambda: result.measurements.extend(grid_metrics(main, options.n)),
        "items": lambda: _items(result, items, options),
        "weights": lambda: _weights(result, main),
        "long-run": lambda: _long_run(result, main, ways[0], options, _watch("long runs")),
        "convergence": lambda: _convergence(result, main, _watch("convergence")),
        "mixing": lambda: _mixing(result, main, options, _watch("mixing")),
        "likelihood": lambda: _likelihood(result, main, options),
    }
    for group in plan.groups:
        measure[group]()
    return result


def _setups(snapshot: Snapshot, pool: Pool, seed: int, map_function: MapFunction) -> dict[Split, EvaluationSetup]:
    datasets = {split: dataset_of_split(snapshot, split) for split in get_args(Split)}
    return {
        split: EvaluationSetup(snapshot, pool, split, data, seed, map_function)
        for split, data in datasets.items()
        if data.size
    }


def _watch(description: str) -> Progress:
    """Shows how far long chains have come."""
    return lambda observations, total: track(observations, total, description, "stretch")


def _samples(
    result: Evaluation, setup: EvaluationSetup, ways: Sequence[Comparison], options: EvaluationOptions
) -> None:
    snapshot, data = setup.snapshot, setup.snapshot.data
    compared = compare_samples(setup, ways, options.n)
    result.measurements += compared.measurements
    if data.density is not None:
        planes = {"samples": compared.samples, **compared.by_origin}
        result.figures["densities"] = lambda: figures.plane_figure(snapshot, planes)
    if data.spec.kind == "image":
        result.images["samples"] = compared.samples[:100], 10
        if "bank" in compared.by_origin:
            result.images["bank"] = compared.by_origin["bank"][:100], 10
        _class_images(result, setup)
    if data.spec.kind == "text":
        result.sentences["samples"] = data.to_sentences(compared.samples)


def _class_images(result: Evaluation, setup: EvaluationSetup) -> None:
    """A row of images per class, where the recipe can sample classes."""
    snapshot, recipe = setup.snapshot, setup.snapshot.recipe
    if count := recipe.num_classes(snapshot.data.spec):
        labels = np.repeat(np.arange(count), CLASS_SAMPLES)
        tasks = class_tasks(snapshot, labels, setup.seed)
        states = final_states(run_tasks(setup.pool, snapshot.nets, tasks), recipe.class_chain or "")
        x = decode_states(snapshot, states, setup.seed)
        result.images["classes"] = x, CLASS_SAMPLES
        names = snapshot.data.classes if len(snapshot.data.classes) == count else range(count)
        result.figures["classes"] = lambda: figures.classes_figure(x, [str(name) for name in names])


def _items(result: Evaluation, setup: EvaluationSetup, options: EvaluationOptions) -> None:
    """Means over items; names end in `_train` where the items are training items."""
    snapshot, recipe, data = setup.snapshot, setup.snapshot.recipe, setup.reference
    n, suffix = (min(options.n, data.size), "_train") if setup.split == "data" else (data.size, "")
    tasks = posterior_tasks(snapshot, data, n, fold(setup.seed, "items"))
    results = run_tasks(setup.pool, snapshot.nets, tasks, "inferring") if tasks else {}
    by_name = item_metrics(snapshot, data, n, results)
    protocol = setup.protocol("items", (), n, chains=", ".join(dict.fromkeys(task.chain for task in tasks)))
    for name, values in by_name.items():
        error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
        result.measurements.append(Measurement(f"{name}{suffix}", float(values.mean()), protocol, error))
    if data.spec.kind == "text":
        numbers = {f"{name}{suffix}": value for name, value in sentence_nll(recipe, snapshot.nets, data).items()}
        result.measurements += measurements(numbers, setup.protocol("sentences", (), n))
    if snapshot.job.data.labels_per_class and "accuracy" in by_name and setup.split != "data":
        _baselines(result, setup)
    energies = {name: values for name, values in by_name.items() if name.startswith("energy")}
    if energies and snapshot.job.data.held_out_class is not None and setup.split != "data":
        _detection(result, setup, energies, n)


def _weights(result: Evaluation, setup: EvaluationSetup) -> None:
    """What the weights say alone."""
    snapshot = setup.snapshot
    inspection = snapshot.recipe.inspect(snapshot.nets, generator(fold(setup.seed, "weights"), snapshot.device))
    result.measurements += measurements(inspection.metrics, setup.protocol("weights", (), 0))
    result.figures |= inspection.figures


def _baselines(result: Evaluation, setup: EvaluationSetup) -> None:
    """What the accuracy of a run with few labels stands beside."""
    data, items = setup.snapshot.data, setup.reference.labelled
    protocol = setup.protocol("accuracy without the model", (), items.size)
    spread = label_spreading_accuracy(data, items, SPREAD_ITEMS, fold(setup.seed, "few labels"))
    note = "the best of its settings, chosen on these items"
    result.measurements += [
        Measurement("accuracy_majority", majority_share(items), protocol),
        Measurement("accuracy_label_spreading", spread, protocol, note=note),
    ]


def _detection(result: Evaluation, setup: EvaluationSetup, energies: dict[str, Tensor], n: int) -> None:
    label = setup.snapshot.job.data.held_out_class
    assert label is not None
    known, anomalous = find_held_out(setup.reference, n, label)
    energies = {name: energy[known] for name, energy in energies.items()}
    protocol = setup.protocol("detection", (), n, label=label)
    numbers = {"auprc_chance": float(anomalous.mean())}
    for name, energy in energies.items():
        suffix = name.removeprefix("energy")
        numbers |= {f"{metric}{suffix}": value for metric, value in detection_metrics(energy, anomalous).items()}
    result.measurements += measurements(numbers, protocol)
    names = {False: "other labels", True: f"label {label}, held out"}
    result.figures["anomaly"] = lambda: figures.anomaly_figure(energies, anomalous, names)


def _long_run(
    result: Evaluation, setup: EvaluationSetup, way: Comparison, options: EvaluationOptions, progress: Progress
) -> None:
    snapshot, data = setup.snapshot, setup.snapshot.data
    n = options.long_run_chains or (300 if data.spec.kind == "image" else 1000)
    starts = available_starts(snapshot, options.starts)
    found, trajectories, curves = long_run_metrics(setup, way, starts, n, options.multiples, progress)
    result.measurements += found
    result.more["energies"] = {start: one.energy.tolist() for start, one in trajectories.items()}
    every, steps = stride(snapshot, options.multiples), snapshot.sampler.steps
    result.figures["energies"] = lambda: figures.energy_figure(trajectories, every)
    result.figures["distances"] = lambda: figures.distance_figure(curves, found[0].value, way.name, steps)
    if data.density is not None or data.spec.kind == "image":
        by_name = {f"{start}, {m:g} K": x for start, one in trajectories.items() for m, x in sorted(one.data.items())}
        result.figures["long_runs"] = lambda: figures.samples_figure(snapshot, by_name, len(options.multiples))


def _convergence(result: Evaluation, setup: EvaluationSetup, progress: Progress) -> None:
    """What an observer of the run would say at this checkpoint."""
    snapshot = setup.snapshot
    comparison = default_comparison(snapshot.data, snapshot.device)
    chains = default_chains(snapshot, setup.seed)
    observed = gather_evidence(snapshot, setup.pool, comparison, *chains, progress=progress)
    assert observed is not None  # nothing stops these chains
    evidence, data = observed
    result.more["convergence"] = verdict.to_json(evidence, verdict.decide(evidence))
    result.figures["convergence"] = lambda: convergence_figures.convergence_figure(evidence)
    if snapshot.data.density is not None or snapshot.data.spec.kind == "image":
        result.figures["convergence_chains"] = lambda: convergence_figures.chains_figure(snapshot, data)


def _mixing(result: Evaluation, setup: EvaluationSetup, options: EvaluationOptions, progress: Progress) -> None:
    every, starts = options.every or setup.snapshot.sampler.steps, available_starts(setup.snapshot, options.starts)
    lengths = options.chains, options.draws, options.warm_up, every
    trajectory = mixing_trajectory(setup, starts, *lengths, progress)
    found, each = mixing_metrics(setup, trajectory)
    result.measurements += found
    result.more["mixing"], result.trajectory = each, trajectory
    result.figures["mixing"] = lambda: figures.mixing_figure(trajectory, each)


def _likelihood(result: Evaluation, setup: EvaluationSetup, options: EvaluationOptions) -> None:
    settings = options.annealed, options.temperatures, options.items, options.item_chains
    result.measurements += likelihood_metrics(setup, options.n, *settings)
