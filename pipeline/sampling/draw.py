"""Drawing from a model: tasks of its chains from any start, moved by any pool, decoded to data."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.chains.lanes import Lane
from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainResult, ChainResults, ChainTask, initial_arrays
from pipeline.data.labels import Label, class_number
from pipeline.errors import InputError
from pipeline.nets.weights import Nets, flatten
from pipeline.progress import NoBar, bar
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot

ChainStart: TypeAlias = Literal["noise", "data", "bank"]
"""Where chains start: from the recipe's initial distribution, from data, or from the run's bank."""

CHAINS_PER_TASK = {"image": 100, "vector": 1000, "text": 1000, "counts": 1000}
"""By kind of data. It is part of what is computed: every task has a seed of its own."""
PARTS = 10
"""Parts in which actors take tasks, where a bar shows how far they are."""
DECODED_AT_ONCE = 1000
"""States that are decoded in one call."""


def draw_tasks(snapshot: Snapshot, n: int, seed: int, start: ChainStart = "noise") -> list[ChainTask]:
    """Tasks that draw n samples with the recipe's sample chain and its own sampler.

    Args:
        snapshot: the model.
        n: number of samples.
        seed: of starts and steps; tasks derive seeds of their own.
        start: "data" needs a recipe that can encode data, "bank" a snapshot with a bank.
    """
    data, bank, chain, sampler = snapshot.data, snapshot.bank, snapshot.recipe.sample_chain, snapshot.sampler
    size, purpose = CHAINS_PER_TASK[data.spec.kind], "long run" if start == "data" else "samples"
    count, tasks, model = -(-n // size), [], (snapshot.update, snapshot.settings)
    for i in range(count):
        k, own_seed = min(size, n - i * size), fold(seed, purpose, i)
        rng = generator(fold(seed, f"{purpose} start", i), snapshot.device)
        items = np.random.default_rng(fold(seed, f"{purpose} data", i)).integers(data.size, size=k)
        if start == "bank":
            assert bank is not None
            x = bank[np.random.default_rng(fold(own_seed, "bank")).integers(len(bank), size=k)].numpy()
            carried = dict[str, ndarray]()
        else:
            x, carried = _fresh_states(snapshot, items, rng, start)
        tasks.append(ChainTask(chain, Lane(i, count), np.arange(k), x, None, sampler, own_seed, *model, carried))
    return tasks


@torch.no_grad()
def _fresh_states(
    snapshot: Snapshot, items: ndarray, rng: torch.Generator, start: ChainStart
) -> tuple[ndarray, dict[str, ndarray]]:
    """States encoded from the items, or the recipe's initial ones, with what these carry."""
    recipe, nets, data = snapshot.recipe, snapshot.nets, snapshot.data
    if start == "data":
        x = recipe.encode(nets, data.batch(items, rng.device)["x"], rng)
        assert x is not None
        return x.cpu().numpy(), {}
    settings = recipe.chains.get(recipe.sample_chain)
    stream = settings.starts_from if settings else None
    context = data.stream(stream).batch(items, rng.device) if stream else None
    return initial_arrays(recipe, recipe.sample_chain, len(items), rng, nets, data.spec, context)


def symbol_of(snapshot: Snapshot, label: Label) -> int:
    """The number of the class that a user names: as the data name it, or from 0 where they name none.

    Raises:
        InputError: the recipe has no such class.
    """
    recipe, data = snapshot.recipe, snapshot.data
    count = recipe.num_classes(data.spec)
    if recipe.class_chain is None or not count:
        raise InputError(f"{type(recipe).__name__} cannot sample a given class", "label", label)
    return class_number(data.classes if len(data.classes) == count else range(count), label, "label")


def class_tasks(snapshot: Snapshot, labels: ndarray, seed: int) -> list[ChainTask]:
    """Tasks that draw one sample of each of the classes, whose numbers (n,) may repeat, with the class chain."""
    recipe, nets, spec = snapshot.recipe, snapshot.nets, snapshot.data.spec
    chain = recipe.class_chain
    assert chain
    size = CHAINS_PER_TASK[spec.kind]
    parts = [labels[i : i + size].astype(np.int64) for i in range(0, len(labels), size)]
    sampler, tasks, model = recipe.sampler(chain, nets, snapshot.update), [], (snapshot.update, snapshot.settings)
    for i, part in enumerate(parts):
        rng, context = generator(fold(seed, "class start", i), snapshot.device), {"label": torch.from_numpy(part)}
        x, carried = initial_arrays(recipe, chain, len(part), rng, nets, spec, context)
        lane, slots, own_seed = Lane(i, len(parts)), np.arange(len(part)), fold(seed, "class", i)
        tasks.append(ChainTask(chain, lane, slots, x, {"label": part}, sampler, own_seed, *model, carried))
    return tasks


def run_tasks(pool: Pool, nets: Nets, tasks: list[ChainTask], verb: str = "") -> ChainResults:
    """The results of tasks of different lanes, moved under the weights of `nets`.

    Args:
        pool: moves them.
        nets: the networks.
        tasks: the chains.
        verb: what a bar says of them, as in "drawing 1,000 samples"; empty: there is no bar.
    """
    flat, results, size = flatten(nets), dict[tuple[str, int], ChainResult](), len(tasks)
    if verb:
        size = -(-len(tasks) // PARTS) if pool.remote else 1  # every part takes the weights along
    parts = {pool.next + i: tasks[i * size : (i + 1) * size] for i in range(-(-len(tasks) // max(size, 1)))}
    counts = {number: sum(len(task.x) for task in part) for number, part in parts.items()}
    shown = bar(sum(counts.values()), f"{verb} {sum(counts.values()):,} samples", "sample")
    with shown if verb else nullcontext(NoBar()) as one:
        for number, part in parts.items() if pool.remote else ():
            pool.submit(number, part, flat)
        for number, part in parts.items():
            if not pool.remote:
                pool.submit(number, part, flat)
            results |= pool.collect(number)
            one.update(counts[number])
    return results


def start_states(tasks: Sequence[ChainTask]) -> Tensor:
    """The states that tasks start from, in their order."""
    return torch.from_numpy(np.concatenate([task.x for task in tasks]))


def final_states(results: ChainResults, chain: str) -> Tensor:
    """The states of a chain's results, in the order of the lanes."""
    return torch.from_numpy(np.concatenate([results[key].x for key in sorted(results) if key[0] == chain]))


@torch.no_grad()
def decode_states(snapshot: Snapshot, x: Tensor, seed: int) -> Tensor:
    """Data for states (n, *d) of the sample chain, on the CPU; the networks are left in eval mode."""
    nets, device = snapshot.nets, snapshot.device
    for net in nets.values():
        net.eval()
    parts = [
        snapshot.recipe.decode(nets, part.to(device), generator(fold(seed, "decode", i), device)).cpu()
        for i, part in enumerate(x.split(DECODED_AT_ONCE))
    ]
    return torch.cat(parts)
