"""Drawing from a model: tasks of its chains from any start, moved by any pool, decoded to data."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.chains.lanes import Lane
from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainResults, ChainTask
from pipeline.data.dataset import Dataset
from pipeline.data.labels import Label, class_number
from pipeline.errors import InputError
from pipeline.nets.weights import Nets, device_of, flatten
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator

ChainStart: TypeAlias = Literal["noise", "data", "bank"]
"""Where chains start: from the recipe's initial distribution, from data, or from the run's bank."""

CHAINS_PER_TASK = {"image": 100, "vector": 1000, "text": 1000, "counts": 1000}
"""By kind of data. It is part of what is computed: every task has a seed of its own."""
DECODED_AT_ONCE = 1000
"""States that are decoded in one call."""


def draw_tasks(
    recipe: Recipe,
    nets: Nets,
    data: Dataset,
    n: int,
    update: int,
    seed: int,
    start: ChainStart = "noise",
    bank: Tensor | None = None,
) -> list[ChainTask]:
    """Tasks that draw n samples with the recipe's sample chain and its own sampler.

    Args:
        recipe: the model's.
        nets: its networks.
        data: what it was trained on.
        n: number of samples.
        update: updates that the networks have made.
        seed: of starts and steps; tasks derive seeds of their own.
        start: "data" needs a recipe that can encode data.
        bank: (k, *d) states, for the start "bank".
    """
    chain, size = recipe.sample_chain, CHAINS_PER_TASK[data.spec.kind]
    count, device, purpose = -(-n // size), device_of(nets), "long run" if start == "data" else "samples"
    sampler, tasks = recipe.sampler(chain, nets, update), []
    for i in range(count):
        k, own_seed = min(size, n - i * size), fold(seed, purpose, i)
        rng = generator(fold(seed, f"{purpose} start", i), device)
        items = np.random.default_rng(fold(seed, f"{purpose} data", i)).integers(data.size, size=k)
        if start == "bank":
            assert bank is not None
            x = bank[np.random.default_rng(fold(own_seed, "bank")).integers(len(bank), size=k)].numpy()
        else:
            x = _fresh_states(recipe, nets, data, items, rng, start).cpu().numpy()
        tasks.append(ChainTask(chain, Lane(i, count), np.arange(k), x, None, sampler, own_seed, update))
    return tasks


@torch.no_grad()
def _fresh_states(
    recipe: Recipe, nets: Nets, data: Dataset, items: ndarray, rng: torch.Generator, start: ChainStart
) -> Tensor:
    if start == "data":
        x = recipe.encode(nets, data.batch(items, rng.device)["x"], rng)
        assert x is not None
        return x
    settings = recipe.chains.get(recipe.sample_chain)
    stream = settings.starts_from if settings else None
    context = data.stream(stream).batch(items, rng.device) if stream else None
    return recipe.initial_states(recipe.sample_chain, len(items), rng, nets, data.spec, context)


def symbol_of(recipe: Recipe, data: Dataset, label: Label) -> int:
    """The number of the class that a user names: as the data name it, or from 0 where they name none.

    Raises:
        InputError: the recipe has no such class.
    """
    count = recipe.num_classes(data.spec)
    if recipe.class_chain is None or not count:
        raise InputError(f"{type(recipe).__name__} cannot sample a given class", "label", label)
    return class_number(data.classes if len(data.classes) == count else range(count), label, "label")


def class_tasks(recipe: Recipe, nets: Nets, data: Dataset, labels: ndarray, update: int, seed: int) -> list[ChainTask]:
    """Tasks that draw one sample of each of the classes, whose numbers (n,) may repeat, with the class chain."""
    chain, device = recipe.class_chain, device_of(nets)
    assert chain
    size = CHAINS_PER_TASK[data.spec.kind]
    parts = [labels[i : i + size].astype(np.int64) for i in range(0, len(labels), size)]
    sampler, tasks = recipe.sampler(chain, nets, update), []
    for i, part in enumerate(parts):
        rng, context = generator(fold(seed, "class start", i), device), {"label": torch.from_numpy(part)}
        x = recipe.initial_states(chain, len(part), rng, nets, data.spec, context).cpu().numpy()
        lane, own_seed = Lane(i, len(parts)), fold(seed, "class", i)
        tasks.append(ChainTask(chain, lane, np.arange(len(part)), x, {"label": part}, sampler, own_seed, update))
    return tasks


def run_tasks(pool: Pool, nets: Nets, tasks: list[ChainTask]) -> ChainResults:
    """The results of tasks of different lanes, moved under the weights of `nets`."""
    pool.submit(pool.next, tasks, flatten(nets))
    return pool.collect(pool.next - 1)


def start_states(tasks: Sequence[ChainTask]) -> Tensor:
    """The states that tasks start from, in their order."""
    return torch.from_numpy(np.concatenate([task.x for task in tasks]))


def final_states(results: ChainResults, chain: str) -> Tensor:
    """The states of a chain's results, in the order of the lanes."""
    return torch.from_numpy(np.concatenate([results[key].x for key in sorted(results) if key[0] == chain]))


@torch.no_grad()
def decode_states(recipe: Recipe, nets: Nets, x: Tensor, seed: int) -> Tensor:
    """Data for states (n, *d) of the sample chain, on the CPU; the networks are left in eval mode."""
    device = device_of(nets)
    for net in nets.values():
        net.eval()
    parts = [
        recipe.decode(nets, part.to(device), generator(fold(seed, "decode", i), device)).cpu()
        for i, part in enumerate(x.split(DECODED_AT_ONCE))
    ]
    return torch.cat(parts)
