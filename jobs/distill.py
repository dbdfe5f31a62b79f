"""Distil an ensemble sampled by a hypernetwork into one classifier of the same architecture.

RUN is a run of hypernetwork. A student learns, on the labelled items that the run learned from, the mean of their
labels and of the mean probability of --n sampled members (cross entropy, temperature 1; --label-weight). The members
see the items without noise. Directly trained classifiers learn the labels in the same way; both with the run's data
noise. They are measured on the items that the run held out (--test-share). Several of each, which differ in their start
and in the order of the items, give a mean and a standard deviation. The weights of the first student are written to
student.npy.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import one_hot

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from jobs.ensemble import noise_of_members, open_hypernetwork
from pipeline.batch import LABELLED
from pipeline.evaluation.metrics import ensembles
from pipeline.evaluation.metrics.direct_training import DirectTraining, train_directly
from pipeline.nets.hypernetwork import hypernetwork_of
from pipeline.rng import fold
from pipeline.settings import PositiveInt, Probability


@dataclass(frozen=True)
class Distill(SnapshotArgs):
    """The run, and how students learn."""

    n: PositiveInt = 100
    """Members of the ensemble that teaches."""
    students: PositiveInt = 5
    """Students, and directly trained classifiers."""
    label_weight: Probability = 0.5
    """Weight of the labels in what students learn; the rest is that of the members' probabilities."""
    training: DirectTraining = DirectTraining()


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Distill, argv, "python -m jobs.distill", __doc__ or "")
    snapshot = open_hypernetwork(args)
    folder, seed = ResultFolder(args, snapshot, "distill"), seed_of(args, snapshot)
    net, test = hypernetwork_of(snapshot.nets), snapshot.data.test
    x, label = ensembles.all_items(snapshot.data.stream(LABELLED), snapshot.device)
    with torch.no_grad():
        teachers = net(noise_of_members(snapshot, args.n, seed))
    teacher = ensembles.classify(net, teachers, test)
    metrics = {
        "member_accuracy": float(teacher.accuracy.mean()),
        "ensemble_accuracy": ensembles.ensemble_accuracy(teacher.p, teacher.label, args.n, seed),
    }
    taught = ensembles.probabilities(net, teachers, x).mean(0).to(x.device)
    mixed = taught.lerp(one_hot(label, net.classes).to(taught.dtype), args.label_weight)
    weights = {}
    for name, target in (("student", mixed), ("direct", label)):
        bar = f"training {args.students} classifiers ({name})"
        w = weights[name] = train_directly(
            net, x, target, args.students, args.training, fold(seed, name), bar, snapshot.recipe.data_noise
        )
        accuracy = ensembles.classify(net, w, test).accuracy
        metrics[f"{name}_accuracy"] = float(accuracy.mean())
        if args.students > 1:
            metrics[f"{name}_accuracy_sd"] = float(accuracy.std())
    file = io.BytesIO()
    np.save(file, weights["student"][0].cpu().numpy())
    folder.storage.write("student.npy", file.getvalue())
    folder.result(args, metrics)


if __name__ == "__main__":
    run_command(main)
