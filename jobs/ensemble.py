"""What classifiers sampled by a hypernetwork are worth together, beside classifiers that learn on their own.

RUN is a run of hypernetwork. All accuracies are on the items that it held out (--test-share), those of ensembles by the
mean probability. `members` are sampled. `independent` classifiers of the same architecture learn from all labelled
items, with the run's data noise, each from its own start; those of `equal_cost` take as many items, in all, as the
run's updates did.

`<origin>_path`: the lowest accuracy on the straight line between the weights of two classifiers, averaged over pairs;
`latent_path`: on the way from one member to another by a straight line of noise z. `dimension`: the participation
dimension of gauge-fixed weights. `entropy`: as in learning, in nats, and in the full gauge (`entropy_full_gauge`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, open_snapshot, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from pipeline.batch import LABELLED
from pipeline.errors import InputError
from pipeline.evaluation.metrics import ensembles
from pipeline.evaluation.metrics.direct_training import DirectTraining, train_directly
from pipeline.evaluation.metrics.ensembles import Ensemble
from pipeline.nets.gauge import fix_gauge
from pipeline.nets.hypernetwork import hypernetwork_of
from pipeline.recipes.hypernetwork import HypernetworkEnsemble
from pipeline.rng import fold, generator, initial_noise
from pipeline.runs.snapshot import Snapshot
from pipeline.settings import Count, NonNegative, PositiveInt

PLANE = 200
"""Weights of each origin in the figure of weights, at most."""


@dataclass(frozen=True)
class EnsembleArgs(SnapshotArgs):
    """The run, and what stands beside it."""

    sizes: tuple[PositiveInt, ...] = (1, 2, 5, 10, 20, 50, 100)
    """Numbers of members; of each, random ensembles out of all are averaged."""
    n: PositiveInt = 200
    """Members that are sampled."""
    independent: Count = 20
    """Classifiers that learn on their own; 0: none."""
    training: DirectTraining = DirectTraining()
    pairs: PositiveInt = 10
    """Pairs of classifiers, with a path between them."""
    points: PositiveInt = 21
    """Points on a path, both ends included."""
    noise: tuple[NonNegative, ...] = (0.0, 0.25, 0.5, 1.0)
    """Standard deviations of the noise that is added to items to measure robustness."""
    beside: tuple[str, ...] = ()
    """Other runs on the same data, say with other weights of accuracy: their members' accuracies are drawn, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sizes or max(self.sizes) > self.n:
            raise InputError(f"must be one or more, each from 1 to n ({self.n})", "sizes", self.sizes)
        if self.n < 2 * self.pairs:
            raise InputError(f"must be twice the pairs ({self.pairs}), or more", "n", self.n)
        if self.independent == 1:
            raise InputError("one is no ensemble: must be 0, or 2 or more", "independent", 1)
        if self.points < 2:
            raise InputError("a path has two ends: must be 2 or more", "points", self.points)


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(EnsembleArgs, argv, "python -m jobs.ensemble", __doc__ or "")
    snapshot = open_hypernetwork(args)
    others = [open_hypernetwork(replace(args, run=run)) for run in args.beside]
    folder, seed = ResultFolder(args, snapshot, "ensemble"), seed_of(args, snapshot)
    net, test = hypernetwork_of(snapshot.nets), snapshot.data.test
    z = noise_of_members(snapshot, args.n, seed)
    with torch.no_grad():
        members = ensembles.classify(net, net(z), test)
    origins = {"members": members, **_independent(snapshot, args, seed)}
    metrics = {f"{name}_{k}": v for name, one in origins.items() for k, v in one.metrics(net).items()}
    curves = {name: one.by_size(args.sizes, seed) for name, one in origins.items()}
    metrics |= {f"{name}_ensemble_{n}": v for name, curve in curves.items() for n, v in curve.items()}
    metrics |= _entropies(snapshot, members)
    paths = _paths(snapshot, args, z, origins)
    metrics |= {f"{name}_path": float(accuracy.amin(1).mean()) for name, accuracy in paths.items()}
    noise = {k: ensembles.noise_accuracy(net, one.w, test, args.noise, seed) for k, one in origins.items()}
    histograms = {describe(snapshot): members.accuracy}
    for other in others:
        own = hypernetwork_of(other.nets)
        with torch.no_grad():
            w = own(noise_of_members(other, args.n, seed))
        histograms[describe(other)] = ensembles.classify(own, w, test).accuracy
    _draw(folder, snapshot, origins, curves, paths, noise, histograms)
    folder.result(args, metrics, ensembles=curves, noise=noise, cpu_seconds=round(time.process_time()))


def open_hypernetwork(args: SnapshotArgs) -> Snapshot:
    """A run's snapshot. Raises InputError where it samples no classifiers, or held out no labelled items."""
    snapshot = open_snapshot(args, needs_energy=False)
    if not isinstance(snapshot.recipe, HypernetworkEnsemble):
        raise InputError(f"{type(snapshot.recipe).__name__} samples no classifiers", "run", args.run)
    if not snapshot.data.test.labelled.size:
        raise InputError("it held out no labelled items to classify (test_share)", "run", args.run)
    return snapshot


def noise_of_members(snapshot: Snapshot, n: int, seed: int) -> Tensor:
    """(n, d) noise that members are made of."""
    rng = generator(fold(seed, "members"), snapshot.device)
    return initial_noise("uniform", (n, snapshot.recipe.hypernetwork.noise_dim), rng)


def describe(snapshot: Snapshot) -> str:
    """A hypernetwork by what its members depend on most."""
    gauge = "" if snapshot.recipe.gauge == "full" else f", gauge {snapshot.recipe.gauge}"
    return f"lambda {snapshot.recipe.accuracy_weight:g}{gauge}"


def _independent(snapshot: Snapshot, args: EnsembleArgs, seed: int) -> dict[str, Ensemble]:
    """Classifiers that learn on their own: for as long as they need, and at the cost of the run."""
    if not args.independent:
        return {}
    net, training, n = hypernetwork_of(snapshot.nets), args.training, args.independent
    x, label = ensembles.all_items(snapshot.data.stream(LABELLED), snapshot.device)
    items = snapshot.update * snapshot.recipe.batch_size
    shorter = replace(training, training_updates=max(1, items // (n * training.training_batch_size)))
    result = dict[str, Ensemble]()
    for name, how in (("independent", training), ("equal_cost", shorter)):
        bar, noise = f"training {n} {name} classifiers", snapshot.recipe.data_noise
        w = train_directly(net, x, label, n, how, fold(seed, name), bar, noise)
        result[name] = ensembles.classify(net, w, snapshot.data.test)
    return result


def _entropies(snapshot: Snapshot, members: Ensemble) -> dict[str, float]:
    net, recipe = hypernetwork_of(snapshot.nets), snapshot.recipe
    count = min(recipe.members, len(members.w))
    estimates = {"entropy": recipe.gauge, "entropy_full_gauge": "full"}
    return {
        k: ensembles.sample_entropy(net, members.w, recipe.hypernetwork.noise_dim, count, v)
        for k, v in estimates.items()
    }


def _paths(snapshot: Snapshot, args: EnsembleArgs, z: Tensor, origins: dict[str, Ensemble]) -> dict[str, Tensor]:
    """Accuracy (pairs, points) along paths, by their kind."""
    net, ends = hypernetwork_of(snapshot.nets), z[: 2 * args.pairs]
    x, label = ensembles.all_items(snapshot.data.test.labelled, snapshot.device)
    with torch.no_grad():
        curved = [net(line) for line in ensembles.lines(ends[::2], ends[1::2], args.points)]
    weights = {"latent": torch.stack(curved)}
    for name in ("members", "independent"):
        if name in origins:
            w = origins[name].w[: 2 * args.pairs]
            weights[name] = ensembles.lines(w[: len(w) // 2 * 2 : 2], w[1::2], args.points)
    return {name: ensembles.path_accuracy(net, w, x, label.cpu()) for name, w in weights.items()}


def _draw(
    folder: ResultFolder,
    snapshot: Snapshot,
    origins: dict[str, Ensemble],
    curves: dict[str, dict[int, float]],
    paths: dict[str, Tensor],
    noise: dict[str, dict[str, dict[float, float]]],
    histograms: dict[str, Tensor],
) -> None:
    from pipeline.evaluation import ensemble_figures as figures  # here: matplotlib is slow to import

    net, shown = hypernetwork_of(snapshot.nets), {k: one for k, one in origins.items() if k != "equal_cost"}
    if "independent" in origins:
        histograms = {**histograms, "independent": origins["independent"].accuracy}
    labels = {"latent": "members, through z", "members": "members, straight", "independent": "independent, straight"}
    planes = {name: fix_gauge(net.classifier, one.w[:PLANE], "full").cpu() for name, one in shown.items()}
    by_noise = {f"{k}, {kind}": curve for k in shown for kind, curve in noise[k].items()}
    folder.figure("accuracies", figures.members_figure(histograms))
    folder.figure("sizes", figures.sizes_figure(curves, float(origins["members"].accuracy.mean())))
    folder.figure("paths", figures.paths_figure({labels[name]: one for name, one in paths.items()}))
    folder.figure("weights", figures.plane_of_weights_figure(planes))
    folder.figure("noise", figures.noise_figure(by_noise))


if __name__ == "__main__":
    run_command(main)
