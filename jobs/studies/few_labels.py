"""What the items without labels were worth: finished runs of symbol-vector coupling against two that do without it.

On the labelled items of each run and those that it held back: (a) encoder and classifier, initialised and optimised as
in the run, taught the labelled items alone; (b) scikit-learn's LabelSpreading along the graph of 7 nearest neighbours
(of counts of words: of tf-idf of length 1), or of all pairs, at its best settings. Runs of one --name and number of
labels, which differ in the seed that draws these, are put together: the figure has their mean and standard deviation.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import ResultFolder, SnapshotArgs, open_snapshot
from pipeline.batch import LABELLED
from pipeline.errors import InputError
from pipeline.evaluation.figures import few_labels_figure
from pipeline.evaluation.metrics.few_labels import (
    accuracy,
    calibration,
    class_scores,
    label_spreading_accuracy,
    train_on_labels_only,
)
from pipeline.nets.weights import device_of
from pipeline.recipe import init_networks
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot


@dataclass(frozen=True)
class FewLabels:
    """The runs, and how long and on how much the others learn."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of runs."""
    out: str = ""
    """New folder of the findings; empty: one in the first run's."""
    updates: int = 200
    """Updates of (a), on as many items at a time as the run had labelled ones."""
    items: int = 10_000
    """Items without labels of the graph of (b), drawn by the run's seed, at most."""
    threads: int = 1
    """CPU threads of the process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""


def main() -> None:
    """The command."""
    asked = parse(FewLabels, sys.argv[1:], "python -m jobs.few_labels", __doc__ or "")
    if not asked.runs or min(asked.updates, asked.items) < 1:
        raise InputError("there must be a run, and --updates and --items of 1 or more")
    looks = [SnapshotArgs(run, asked.out, 0, asked.threads, asked.device) for run in asked.runs]
    models = [open_snapshot(look, allow_latent=True) for look in looks]
    for run, model in zip(asked.runs, models, strict=True):
        _check(run, model)
    findings = ResultFolder(looks[0], models[0], "few-labels")
    rows = [_compared(run, model, asked) for run, model in zip(asked.runs, models, strict=True)]
    found = _together(rows)
    metrics = {f"{m}-{n}{what}": float(f(values)) for m, by_labels in found.items() for n, values in by_labels.items()
               for what, f in (("", np.mean), ("-sd", np.std))}  # fmt: skip
    findings.figure("few_labels", few_labels_figure(found))
    findings.result(asked, metrics, runs=rows)


def _check(run: str, model: Snapshot) -> None:
    if LABELLED not in model.job.recipe.streams:
        raise InputError(f"{run}: {type(model.job.recipe).__name__} learned from no labelled stream")
    if not len(model.data.test_rows):
        raise InputError(f"{run} held nothing back to compare on: it needs --test-share")


def _together(rows: list[dict[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """Accuracies by method, the runs' by their name, and labels a class; of the others once for each draw of labels."""
    found: dict[str, dict[int, list[float]]] = {}
    once = {(row["labels"], row["seed"]): row for row in rows}.values()
    for method, some in (("accuracy", rows), ("labels_only", once), ("label_spreading", once)):
        for row in some:
            name = row["name"] if method == "accuracy" else method.replace("_", " ")
            found.setdefault(name, {}).setdefault(row["labels"], []).append(row[method])
    return found


def _compared(run: str, model: Snapshot, asked: FewLabels) -> dict[str, Any]:
    """Accuracies on what a run held back."""
    job, data, recipe = model.job, model.data, model.job.recipe
    own = class_scores(model.nets, data.test)
    alone = init_networks(recipe, data.spec, job.seed, device_of(model.nets))
    size, seed = recipe.streams[LABELLED], fold(job.seed, "few labels")
    train_on_labels_only(recipe, alone, data, asked.updates, size, seed)
    others = class_scores(alone, data.test)
    row = {
        "name": job.name,
        "labels": round(len(data.labelled_rows) / data.spec.num_classes),
        "seed": job.seed,
        "accuracy": accuracy(own, data.test),
        "labels_only": accuracy(others, data.test),
        "label_spreading": label_spreading_accuracy(data, data.test, asked.items, seed),
        "calibration": calibration(own, data.test),
        "calibration_labels_only": calibration(others, data.test),
    }
    print(f"{run}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return row


if __name__ == "__main__":
    run_command(main)
