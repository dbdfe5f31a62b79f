"""What a recipe scores of single items: reconstruction, accuracy, energy; how well energies tell one label apart."""

import numpy as np
from numpy import ndarray

from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainTask
from pipeline.data.dataset import Dataset
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator

PIECE = 100
"""Items in one task."""


def pieces(n: int) -> list[ndarray]:
    """0 ... n - 1, cut into what one task takes."""
    return np.array_split(np.arange(n), max(1, -(-n // PIECE)))


def posterior_tasks(recipe: Recipe, nets: Nets, data: Dataset, n: int, update: int, seed: int) -> list[ChainTask]:
    """Tasks of the recipe's chains that have a context, for the first n items of the data; they start afresh."""
    device, drawn, cut = device_of(nets), [], pieces(n)
    for name in [name for name, chain in recipe.chains.items() if chain.context]:
        for i, index in enumerate(cut):
            batch = data.batch(index, device)
            rng = generator(fold(seed, f"held out {name}", i), device)
            x = recipe.initial_states(name, len(index), rng, nets, dict.fromkeys(recipe.streams, batch)).cpu().numpy()
            context = {k: v.cpu().numpy() for k, v in batch.items()}
            sampler, own = recipe.inference_sampler(name, nets, update), fold(seed, f"held out chain {name}", i)
            drawn.append(ChainTask(name, Lane(i, len(cut)), np.arange(len(index)), x, context, sampler, own, update))
    return drawn
