"""Samples of a model, and what they are worth."""

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainResults, ChainTask
from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator

PIECE = {"image": 100, "vector": 1000, "text": 1000, "counts": 1000}
"""Chains in one task."""


def draw_tasks(
    recipe: Recipe, nets: Nets, data: Dataset, n: int, update: int, seed: int, from_data: bool = False
) -> list[ChainTask]:
    """Tasks that draw n samples by the chain of the recipe's model and its own sampler, with seeds of their own.

    They start afresh as the recipe says, or, for long runs of chains whose states are data, from data.
    """
    chain, piece = recipe.sample_chain, PIECE[data.spec.kind]
    pieces, device, what = -(-n // piece), device_of(nets), "long run" if from_data else "samples"
    sampler, drawn = recipe.sampler(chain, nets, update), []
    for i in range(pieces):
        size = min(piece, n - i * piece)
        rng = generator(fold(seed, f"{what} start", i), device)
        items = np.random.default_rng(fold(seed, f"{what} data", i)).integers(data.size, size=size)
        batch = {stream: data.batch(items, device) for stream in recipe.streams}
        with torch.no_grad():
            x = recipe.encode(nets, data.batch(items, device)["x"], rng) if from_data else None
            x = (recipe.initial_states(chain, size, rng, nets, batch) if x is None else x).cpu()
        task_seed = fold(seed, what, i)
        drawn.append(ChainTask(chain, Lane(i, pieces), np.arange(size), x.numpy(), None, sampler, task_seed, update))
    return drawn


def class_tasks(recipe: Recipe, nets: Nets, data: Dataset, labels: ndarray, update: int, seed: int) -> list[ChainTask]:
    """Tasks that draw one sample of each of the classes `labels` (n,), which may repeat, by the chain `class`.

    Raises:
        BadInput: the recipe has no such classes.
    """
    classes, device = recipe.num_classes(data.spec), device_of(nets)
    if not classes:
        raise InputError(f"{type(recipe).__name__} has no classes that samples could be drawn of")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"--label {labels.max()}: there are the classes 0 to {classes - 1}")
    piece = PIECE[data.spec.kind]
    parts = [labels[i : i + piece].astype(np.int64) for i in range(0, len(labels), piece)]
    sampler, drawn = recipe.sampler("class", nets, update), []
    for i, part in enumerate(parts):
        x = (
            recipe.initial_states("class", len(part), generator(fold(seed, "class start", i), device), nets, {})
            .cpu()
            .numpy()
        )
        lane, own = Lane(i, len(parts)), fold(seed, "class", i)
        drawn.append(ChainTask("class", lane, np.arange(len(part)), x, {"label": part}, sampler, own, update))
    return drawn


def start_states(tasks: list[ChainTask]) -> Tensor:
    """The states that tasks start from, in their order."""
    return torch.from_numpy(np.concatenate([task.x for task in tasks]))


def final_states(answers: ChainResults, chain: str) -> Tensor:
    """The states of a chain's answers, in the order of the lanes."""
    return torch.from_numpy(np.concatenate([answers[key].x for key in sorted(answers) if key[0] == chain]))


def decode_states(recipe: Recipe, nets: Nets, x: Tensor, seed: int) -> Tensor:
    """The data that states (n, *d) of the model's chains stand for, on the CPU; the networks are left in eval mode."""
    device = device_of(nets)
    for net in nets.values():
        net.eval()
    with torch.no_grad():
        parts = [
            recipe.decode(nets, part.to(device), generator(fold(seed, "decode", i), device)).cpu()
            for i, part in enumerate(x.split(PIECE["vector"]))
        ]
    return torch.cat(parts)
