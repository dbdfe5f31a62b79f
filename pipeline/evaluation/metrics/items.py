"""Metrics of single items, and how well energies detect a held-out class."""

import torch
from numpy import ndarray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from pipeline.chains.task import ChainResults, chain_states
from pipeline.data.dataset import Dataset
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator
from pipeline.sampling.posterior import item_pieces


@torch.no_grad()
def item_metrics(recipe: Recipe, nets: Nets, data: Dataset, n: int, answers: ChainResults) -> dict[str, Tensor]:
    """The recipe's scores (n,) of the first n items, by name, from the answers to `tasks`; nets stay in eval mode."""
    device, found = device_of(nets), dict[str, list[Tensor]]()
    for net in nets.values():
        net.eval()
    for i, index in enumerate(item_pieces(n)):
        batch = data.batch(index, device)
        rng = generator(fold(0, "scores", i), device)
        chains = {chain: chain_states(answer, device) for (chain, piece), answer in answers.items() if piece == i}
        for name, score in recipe.item_metrics(nets, dict.fromkeys(recipe.streams, batch), chains, rng).items():
            found.setdefault(name, []).append(score.float().cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


def detection_metrics(energy: Tensor, anomalous: ndarray) -> dict[str, float]:
    """`auprc` and `auroc` of a high energy as a sign of what is anomalous (n,); none unless there is some of both.

    The share of what is anomalous is the precision of a score that says nothing.
    """
    if anomalous.all() or not anomalous.any():
        return {}
    return {
        "auprc": float(average_precision_score(anomalous, energy.numpy())),
        "auroc": float(roc_auc_score(anomalous, energy.numpy())),
    }
