"""Posterior chains of held-out items: chains whose target depends on data."""

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainResults, ChainTask, chain_states, initial_arrays
from pipeline.data.dataset import Dataset
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot

ITEMS_PER_TASK = 100


def posterior_chains(recipe: Recipe) -> list[str]:
    """Names of the chains whose target depends on items of data."""
    return [name for name, chain in recipe.chains.items() if chain.context]


def item_pieces(n: int) -> list[ndarray]:
    """The indices 0 ... n - 1, split into what one task takes."""
    return np.array_split(np.arange(n), max(1, -(-n // ITEMS_PER_TASK)))


@torch.no_grad()
def posterior_tasks(snapshot: Snapshot, data: Dataset, n: int, seed: int) -> list[ChainTask]:
    """Tasks of the recipe's posterior chains for the first n items of the data; all chains start anew."""
    recipe, nets, device, tasks, pieces = snapshot.recipe, snapshot.nets, snapshot.device, [], item_pieces(n)
    for chain in posterior_chains(recipe):
        sampler = recipe.inference_sampler(chain, nets, snapshot.update)
        for i, index in enumerate(pieces):
            batch = data.batch(index, device)
            rng = generator(fold(seed, f"held out {chain}", i), device)
            x, carried = initial_arrays(recipe, chain, len(index), rng, nets, data.spec, batch)
            context = {name: t.cpu().numpy() for name, t in batch.items()}
            lane, own_seed = Lane(i, len(pieces)), fold(seed, f"held out chain {chain}", i)
            slots, model = np.arange(len(index)), (snapshot.update, snapshot.settings)
            tasks.append(ChainTask(chain, lane, slots, x, context, sampler, own_seed, *model, carried))
    return tasks


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
    recipe, nets, device, metrics = snapshot.recipe, snapshot.nets, snapshot.device, dict[str, list[Tensor]]()
    for net in nets.values():
        net.eval()
    for i, index in enumerate(item_pieces(n)):
        batch = data.batch(index, device)
        rng = generator(fold(0, "scores", i), device)
        chains = {chain: chain_states(result, device) for (chain, piece), result in results.items() if piece == i}
        for name, values in recipe.item_metrics(nets, dict.fromkeys(recipe.streams, batch), chains, rng).items():
            metrics.setdefault(name, []).append(values.float().cpu())
    return {name: values for name, parts in metrics.items() if len(values := torch.cat(parts))}
