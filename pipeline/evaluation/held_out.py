"""What a recipe scores of single items: reconstruction, accuracy, energy; how well energies tell one label apart."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy import ndarray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from pipeline.chains import Answers, ChainTask, moved
from pipeline.data import Dataset
from pipeline.lanes import Lane
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator
from pipeline.weights import Nets, device_of

PIECE = 100
"""Items in one task."""


def pieces(n: int) -> list[ndarray]:
    """0 ... n - 1, cut into what one task takes."""
    return np.array_split(np.arange(n), max(1, -(-n // PIECE)))


def tasks(recipe: Recipe, nets: Nets, data: Dataset, n: int, update: int, seed: int) -> list[ChainTask]:
    """Tasks of the recipe's chains that have a context, for the first n items of the data; they start afresh."""
    device, drawn, cut = device_of(nets), [], pieces(n)
    for name in [name for name, chain in recipe.chains.items() if chain.context]:
        for i, index in enumerate(cut):
            batch = data.batch(index, device)
            rng = generator(fold(seed, f"held out {name}", i), device)
            x = recipe.start(name, len(index), rng, nets, dict.fromkeys(recipe.streams, batch)).cpu().numpy()
            context = {k: v.cpu().numpy() for k, v in batch.items()}
            sampler, own = recipe.inference(name, nets, update), fold(seed, f"held out chain {name}", i)
            drawn.append(ChainTask(name, Lane(i, len(cut)), np.arange(len(index)), x, context, sampler, own, update))
    return drawn


@torch.no_grad()
def scores(recipe: Recipe, nets: Nets, data: Dataset, n: int, answers: Answers) -> dict[str, Tensor]:
    """The recipe's scores (n,) of the first n items, by name, from the answers to `tasks`; nets stay in eval mode."""
    device, found = device_of(nets), dict[str, list[Tensor]]()
    for net in nets.values():
        net.eval()
    for i, index in enumerate(pieces(n)):
        batch = data.batch(index, device)
        rng = generator(fold(0, "scores", i), device)
        chains = {chain: moved(answer, device) for (chain, piece), answer in answers.items() if piece == i}
        for name, score in recipe.scores(nets, dict.fromkeys(recipe.streams, batch), chains, rng).items():
            found.setdefault(name, []).append(score.float().cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


def detection(energy: Tensor, anomalous: ndarray) -> dict[str, float]:
    """`auprc` and `auroc` of a high energy as a sign of what is anomalous (n,); none unless there is some of both.

    The share of what is anomalous is the precision of a score that says nothing.
    """
    if anomalous.all() or not anomalous.any():
        return {}
    return {
        "auprc": float(average_precision_score(anomalous, energy.numpy())),
        "auroc": float(roc_auc_score(anomalous, energy.numpy())),
    }


def histograms(energies: Mapping[str, Tensor], anomalous: ndarray, names: Mapping[bool, str]) -> Figure:
    """Each energy of what is anomalous and of what is not, as densities; the ends beyond 99.5 % are cut."""
    figure = Figure(figsize=(5 * len(energies), 3.4), layout="constrained")
    for axes, (what, energy) in zip(
        figure.subplots(1, len(energies), squeeze=False).flat, energies.items(), strict=True
    ):
        bins = np.linspace(float(energy.min()), float(energy.quantile(0.995)), 60).tolist()
        for kind, name in names.items():
            axes.hist(energy.numpy()[anomalous == kind], bins, density=True, alpha=0.6, label=name)
        axes.set(xlabel=what.replace("_", ", "), ylabel="density")
        axes.legend(loc="upper right")  # the best place takes a while to find
    return figure
