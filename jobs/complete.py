"""Complete items of which a part is hidden: the posterior's chains see the rest alone, and what they find is decoded.

For runs whose posterior is sampled by chains. Errors are mean squares a coordinate, in units of the data's [-1, 1];
beside them those of the mean of the run's data, and of probabilistic principal components, as many as the latent vector
has dimensions, fitted to at most 10,000 of them. Items are those that --test-share held back, else some that were
learned from.
"""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import ResultFolder, SnapshotArgs, load_other_data, open_snapshot, random_items
from pipeline.chains.task import ChainTask, advance
from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.evaluation.metrics.completion import Side, fit_ppca, masked_errors, observed_mask, ppca_completion
from pipeline.nets.generator import GaussianDecoder
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import decode_states
from pipeline.sampling.posterior import item_pieces, posterior_tasks

FITTED = 10_000
"""Items that the principal components are fitted to, at most."""


@dataclass(frozen=True)
class Complete:
    """What is completed, and where the findings go."""

    look: SnapshotArgs
    data: str = ""
    """Data to complete, of the run's shape, best held out from it; empty: the run's own."""
    hide: Side = "left"
    """What is hidden: a side, the middle, or coordinates at random."""
    share: float = 0.5
    """Share of the coordinates that is hidden; 0: none, so that items are reconstructed."""
    multiples: tuple[int, ...] = (1, 10)
    """Lengths of the chains, in multiples of those by which the run scores what was held back."""
    average: int = 10
    """Chains an item, of the last of these lengths, whose decoded ends are averaged for another guess: an end is a draw
    of the posterior, while principal components give its mean. 0: none."""
    n: int = 100
    """Items to complete."""


def main() -> None:
    """The command."""
    asked = parse(Complete, sys.argv[1:], "python -m jobs.complete", __doc__ or "")
    if min(asked.n, *asked.multiples, 0 if not asked.multiples else 1) < 1 or asked.average < 0:
        raise InputError("--n and each of --multiples must be 1 or more, --average 0 or more")
    if not 0 <= asked.share < 1:
        raise InputError(f"--share {asked.share}: it must be 0 or more, and leave something to go by")
    model = open_snapshot(asked.look, allow_latent=True)
    data, origin = _items(model, asked)
    n = min(asked.n, data.size)
    x = data.batch(np.arange(n))["x"]
    rng = generator(fold(asked.look.seed, "hidden"))
    known = observed_mask(asked.hide, asked.share, model.data.spec.shape, n, rng)
    tasks = _tasks(model, data, known, asked.look.seed)
    findings = ResultFolder(asked.look, model, "complete")
    guesses = {f"{k}K": _made(model, tasks, k) for k in asked.multiples}
    if asked.average:
        seeds = [fold(asked.look.seed, "average", i) for i in range(asked.average)]
        ends = [_made(model, _tasks(model, data, known, seed), asked.multiples[-1]) for seed in seeds]
        guesses["average"] = torch.stack(ends).mean(0)
    learned = random_items(model.data, FITTED, fold(asked.look.seed, "fitted"))
    linear = fit_ppca(learned, tasks[0].x.shape[1])
    guesses |= {"mean": learned.mean(0).expand_as(x), "pca": ppca_completion(linear, x, known)}
    found = {name: masked_errors(x, guess, known) for name, guess in guesses.items()}
    metrics = {f"mse_{part}_{name}": error for name, parts in found.items() for part, error in parts.items()}
    findings.result(asked, metrics, items=origin, components=linear.loadings.shape[1])
    if model.data.spec.kind == "image":
        _draw(findings, x, known, guesses)


def _items(model: Snapshot, asked: Complete) -> tuple[Dataset, str]:
    """What is completed, and where it is from. Raises BadInput where the run or the items will not do."""
    chain = model.job.recipe.chains.get("posterior")
    if chain is None or chain.context is None:
        name = type(model.job.recipe).__name__
        raise InputError(f"{asked.look.run}: {name} runs no chains of the posterior, which could complete")
    if not isinstance(model.nets["generator"], GaussianDecoder):
        raise InputError(f"{asked.look.run}: its p(x|z) is no Gaussian density, of which coordinates could be hidden")
    if not asked.data:
        tested = len(model.data.test_rows) > 0
        return (model.data.test, "held back") if tested else (model.data, "learned from")
    return load_other_data(model, asked.data), asked.data


def _tasks(model: Snapshot, data: Dataset, known: Tensor, seed: int) -> list[ChainTask]:
    """The posterior's chains for the first items of the data, which see 0 for what is hidden."""
    tasks, parts = [], iter(item_pieces(len(known)))
    for task in posterior_tasks(model.job.recipe, model.nets, data, len(known), model.update, seed):
        if task.chain == "posterior" and task.context is not None:
            mask = known[next(parts)].numpy()
            tasks.append(task._replace(context={**task.context, "x": mask * task.context["x"], "observed": mask}))
    return tasks


def _made(model: Snapshot, tasks: list[ChainTask], multiple: int) -> Tensor:
    """What the ends of chains of so many times their steps decode to."""
    longer = []
    for task in tasks:
        sampler = cast(Any, task.sampler)
        longer.append(task._replace(sampler=dataclasses.replace(sampler, steps=multiple * sampler.steps)))
    ends = torch.from_numpy(np.concatenate([advance(model.job.recipe, model.nets, task).x for task in longer]))
    return decode_states(model.job.recipe, model.nets, ends, tasks[0].seed)


def _draw(findings: ResultFolder, x: Tensor, known: Tensor, guesses: dict[str, Tensor]) -> None:
    """Rows of items, of what is seen of them, of each guess: twenty columns at most."""
    columns = min(20, len(x))
    rows = [x, x * known, *(guess for name, guess in guesses.items() if name != "mean")]
    findings.images("completion", torch.cat([row[:columns] for row in rows]), columns)


if __name__ == "__main__":
    run_command(main)
