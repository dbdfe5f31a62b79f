"""Metrics of single items, and how well energies detect a held-out class."""

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.chains.task import ChainResults, chain_states
from pipeline.data.dataset import Dataset
from pipeline.data.labels import Label, class_number
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.posterior import item_pieces


@torch.no_grad()
def item_metrics(snapshot: Snapshot, data: Dataset, n: int, results: ChainResults) -> dict[str, Tensor]:
    """The recipe's metrics (n,) of the first n items, by name; the networks are left in eval mode.

    Metrics that need a label are of the items that have one; without any there are none.

    Args:
        snapshot: the model.
        data: the items.
        n: how many of them.
        results: of `posterior_tasks` for the same items.
    """
    recipe, nets, device, metrics = snapshot.job.recipe, snapshot.nets, snapshot.device, dict[str, list[Tensor]]()
    for net in nets.values():
        net.eval()
    for i, index in enumerate(item_pieces(n)):
        batch = data.batch(index, device)
        rng = generator(fold(0, "scores", i), device)
        chains = {chain: chain_states(result, device) for (chain, piece), result in results.items() if piece == i}
        for name, values in recipe.item_metrics(nets, dict.fromkeys(recipe.streams, batch), chains, rng).items():
            metrics.setdefault(name, []).append(values.float().cpu())
    return {name: values for name, parts in metrics.items() if len(values := torch.cat(parts))}


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
