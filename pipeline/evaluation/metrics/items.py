"""Metrics of single items, and how well energies detect a held-out class."""

import numpy as np
from numpy import ndarray
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.data.labels import Label, class_number


def detection_metrics(energy: Tensor, anomalous: ndarray) -> dict[str, float]:
    """`auprc` and `auroc` of high energies as a sign of anomalous items; {} unless there are items of both kinds.

    The share of anomalous items is the precision of an uninformative energy.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # slow to import

    if anomalous.all() or not anomalous.any():
        return {}
    return {
        "auprc": float(average_precision_score(anomalous, energy.numpy())),
        "auroc": float(roc_auc_score(anomalous, energy.numpy())),
    }


def find_held_out(data: Dataset, n: int, held_out_class: Label) -> tuple[ndarray, ndarray]:
    """Which of the first n items have a label, (k,), and whether each of them belongs to the held-out class, (k,)."""
    label = data.batch(np.arange(n))["label"].numpy()
    known = np.flatnonzero(label >= 0)
    return known, label[known] == class_number(data.classes, held_out_class, "held_out_class")
