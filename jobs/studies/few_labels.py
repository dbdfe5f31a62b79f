"""What the unlabelled items are worth: finished runs of symbol_vector against two methods that do without them.

On the labelled items of each run and those that it held out: (a) encoder and classifier, initialised and optimised as
in the run, trained on the labelled items alone; (b) scikit-learn's LabelSpreading over the graph of 7 nearest
neighbours (word counts: of tf-idf of length 1), or over all pairs, at its best settings. Runs with the same --name and
number of labels, which differ in the seed that draws the labels, are averaged: the figure shows mean and standard
deviation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, open_snapshot
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from pipeline.batch import LABELLED
from pipeline.errors import InputError
from pipeline.evaluation.metrics.few_labels import (
    SPREAD_ITEMS,
    ClassifierRecipe,
    accuracy,
    calibration,
    class_scores,
    label_spreading_accuracy,
    train_on_labels_only,
)
from pipeline.recipe import init_networks
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.settings import PositiveInt, Settings


@dataclass(frozen=True)
class FewLabels(Settings):
    """The runs, and how the other methods learn."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of runs."""
    out: str = ""
    """New folder of the results; empty: <first run>/few-labels-<update>."""
    updates: PositiveInt = 200
    """Updates of (a), with as many items each as the run had labelled ones per update."""
    items: PositiveInt = SPREAD_ITEMS
    """Unlabelled items in the graph of (b), drawn with the run's seed, at most."""
    threads: PositiveInt = 1
    """CPU threads of this process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of this process; auto: a GPU if there is one."""
    recipe_module: str = ""
    """Module that holds the runs' recipe, where it is not one of this package."""


Accuracies = dict[str, dict[int, list[float]]]
"""By method (of the runs: by their name) and labels per class, of several draws of the labels."""


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(FewLabels, argv, "python -m jobs.studies.few_labels", __doc__ or "")
    if not args.runs:
        raise InputError("name one run or more", "runs")
    snapshots = {run: _open(run, args) for run in args.runs}
    first = next(iter(snapshots.values()))
    folder = ResultFolder(SnapshotArgs(args.runs[0], out=args.out), first, "few-labels")
    rows = [_compare(run, snapshot, args) for run, snapshot in snapshots.items()]
    accuracies, metrics = _by_method(rows), dict[str, float]()
    for method, by_labels in accuracies.items():
        for labels, values in by_labels.items():
            metrics |= {f"{method}-{labels}": float(np.mean(values)), f"{method}-{labels}-sd": float(np.std(values))}
    from pipeline.evaluation.figures import few_labels_figure  # here: matplotlib is slow to import

    folder.figure("few_labels", few_labels_figure(accuracies))
    folder.result(args, metrics, runs=rows)


def _open(run: str, args: FewLabels) -> Snapshot:
    """A run's snapshot. Raises InputError where it cannot be compared."""
    run_args = SnapshotArgs(run, threads=args.threads, device=args.device, recipe_module=args.recipe_module)
    snapshot = open_snapshot(run_args, needs_energy=False)
    recipe = snapshot.recipe
    if LABELLED not in recipe.streams or not isinstance(recipe, ClassifierRecipe):
        raise InputError(
            f"{type(recipe).__name__} did not learn to classify from a stream of labelled items", "run", run
        )
    if not snapshot.data.test.labelled.size:
        raise InputError("it held out no labelled items to compare on (test_share)", "run", run)
    return snapshot


def _by_method(rows: list[dict[str, Any]]) -> Accuracies:
    """The accuracies of all rows; other methods count once per draw of the labels."""
    accuracies: Accuracies = {}
    draws = {(row["labels"], row["seed"]): row for row in rows}.values()
    for method, some in (("accuracy", rows), ("labels_only", draws), ("label_spreading", draws)):
        for row in some:
            name = row["name"] if method == "accuracy" else method.replace("_", " ")
            accuracies.setdefault(name, {}).setdefault(row["labels"], []).append(row[method])
    return accuracies


def _compare(run: str, snapshot: Snapshot, args: FewLabels) -> dict[str, Any]:
    """Accuracies on the items that a run held out."""
    job, data, recipe = snapshot.job, snapshot.data, snapshot.recipe
    test = data.test.labelled
    own = class_scores(recipe, snapshot.nets, test)
    nets = init_networks(recipe, data.spec, job.seed, snapshot.device)
    size, seed = recipe.streams[LABELLED], fold(job.seed, "few labels")
    train_on_labels_only(recipe, nets, data, args.updates, size, seed)
    labels_only = class_scores(recipe, nets, test)
    row = {
        "name": job.name,
        "labels": round(len(data.labelled_rows) / data.spec.num_classes),
        "seed": job.seed,
        "accuracy": accuracy(own, test),
        "labels_only": accuracy(labels_only, test),
        "label_spreading": label_spreading_accuracy(data, test, args.items, seed),
        "calibration": calibration(own, test),
        "calibration_labels_only": calibration(labels_only, test),
    }
    print(f"{run}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return row


if __name__ == "__main__":
    run_command(main)
