"""Metrics of single items, and how well energies detect a held-out class."""

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.chains.task import ChainResults, chain_states
from pipeline.data.dataset import Dataset
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.posterior import item_pieces


@torch.no_grad()
def item_metrics(snapshot: Snapshot, data: Dataset, n: int, results: ChainResults) -> dict[str, Tensor]:
    """The recipe's metrics (n,) of the first n items, by name; the networks are left in eval mode.

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
    return {name: torch.cat(parts) for name, parts in metrics.items()}


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


def is_held_out(data: Dataset, n: int, held_out_class: int) -> ndarray:
    """(n,) whether each of the first n items belongs to the held-out class."""
    return data.batch(np.arange(n))["label"].numpy() == held_out_class
