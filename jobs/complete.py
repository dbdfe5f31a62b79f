"""Complete items of which a part is hidden: posterior chains see the rest alone, and their ends are decoded.

For runs whose posterior is sampled by chains. Errors are mean squares per coordinate, in units of the data's [-1, 1],
beside those of two baselines: the mean of the run's data, and probabilistic principal components, as many as the latent
vector has dimensions, fitted to at most 10,000 items. Items are those held out by --test-share, or training items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, load_other_data, open_snapshot, own_items, random_items, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder
from pipeline.chains.task import ChainTask, advance
from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.evaluation.metrics.completion import Side, fit_ppca, masked_errors, observed_mask, ppca_completion
from pipeline.nets.generator import GaussianDecoder
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import decode_states
from pipeline.sampling.long_chains import with_steps
from pipeline.sampling.posterior import item_pieces, posterior_chains, posterior_tasks
from pipeline.settings import Count, PositiveInt, Share

FITTED_ITEMS = 10_000
"""Items that the principal components are fitted to, at most."""
COLUMNS = 20


@dataclass(frozen=True)
class Complete(SnapshotArgs):
    """The run, and what is completed."""

    data: str = ""
    """Data to complete, of the run's shape, best held out from it; empty: the run's own."""
    hide: Side = "left"
    """What is hidden: a side, the middle, or random coordinates."""
    share: Share = 0.5
    """Share of the coordinates that is hidden; 0: none, which reconstructs the items."""
    multiples: tuple[PositiveInt, ...] = (1, 10)
    """Lengths of the chains, in multiples of those by which the run scores held-out items."""
    average: Count = 10
    """Chains per item whose decoded ends are averaged, at the last of these lengths: one end is a sample of the
    posterior, while principal components give its mean. 0: no average."""
    n: PositiveInt = 100
    """Items to complete."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.multiples:
            raise InputError("must not be empty", "multiples", self.multiples)


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Complete, argv, "python -m jobs.complete", __doc__ or "")
    snapshot = open_snapshot(args, needs_energy=False)
    (data, origin), seed = _items(snapshot, args), seed_of(args, snapshot)
    n = min(args.n, data.size)
    x = data.batch(np.arange(n))["x"]
    observed = observed_mask(args.hide, args.share, snapshot.data.spec.shape, n, generator(fold(seed, "hidden")))
    folder = ResultFolder(args, snapshot, "complete")
    completions = _completions(snapshot, args, data, observed, seed)
    training = random_items(snapshot.data, FITTED_ITEMS, fold(seed, "fitted"))
    ppca = fit_ppca(training, _tasks(snapshot, data, observed, seed)[0].x.shape[1])
    completions |= {"mean": training.mean(0).expand_as(x), "pca": ppca_completion(ppca, x, observed)}
    errors = {name: masked_errors(x, completed, observed) for name, completed in completions.items()}
    metrics = {f"mse_{part}_{name}": error for name, parts in errors.items() for part, error in parts.items()}
    folder.result(args, metrics, items=origin, components=ppca.loadings.shape[1])
    if snapshot.data.spec.kind == "image":
        _draw(folder, x, observed, completions)


def _items(snapshot: Snapshot, args: Complete) -> tuple[Dataset, str]:
    """What is completed, and where it comes from. Raises InputError where the run or the items do not fit."""
    recipe = snapshot.recipe
    model = recipe.likelihood(snapshot.nets)
    if model is None or not posterior_chains(recipe):
        raise InputError(
            f"{type(recipe).__name__} runs no chains of a posterior, which could complete", "run", args.run
        )
    if not isinstance(model.decoder, GaussianDecoder):
        raise InputError("its p(x|z) is not a Gaussian density, whose coordinates could be hidden", "run", args.run)
    if args.data:
        return load_other_data(snapshot, args.data), args.data
    return own_items(snapshot)


def _completions(snapshot: Snapshot, args: Complete, data: Dataset, observed: Tensor, seed: int) -> dict[str, Tensor]:
    """Completions by chains of each length, and the average of several chains."""
    tasks = _tasks(snapshot, data, observed, seed)
    completions = {f"{k}K": _decode_ends(snapshot, tasks, k) for k in args.multiples}
    if args.average:
        seeds = [fold(seed, "average", i) for i in range(args.average)]
        ends = [_decode_ends(snapshot, _tasks(snapshot, data, observed, s), args.multiples[-1]) for s in seeds]
        completions["average"] = torch.stack(ends).mean(0)
    return completions


def _tasks(snapshot: Snapshot, data: Dataset, observed: Tensor, seed: int) -> list[ChainTask]:
    """The posterior's chains for the first items of the data, which see 0 for what is hidden."""
    recipe, tasks, pieces = snapshot.recipe, [], iter(item_pieces(len(observed)))
    chain = posterior_chains(recipe)[0]
    for task in posterior_tasks(snapshot, data, len(observed), seed):
        if task.chain == chain and task.context is not None:
            mask = observed[next(pieces)].numpy()
            tasks.append(task._replace(context={**task.context, "x": mask * task.context["x"], "observed": mask}))
    return tasks


def _decode_ends(snapshot: Snapshot, tasks: list[ChainTask], multiple: int) -> Tensor:
    """The decoded ends of chains that take `multiple` times their steps."""
    longer = with_steps(tasks, multiple * cast(Any, tasks[0].sampler).steps)
    ends = [advance(snapshot.recipe, snapshot.nets, task).x for task in longer]
    return decode_states(snapshot, torch.from_numpy(np.concatenate(ends)), tasks[0].seed)


def _draw(folder: ResultFolder, x: Tensor, observed: Tensor, completions: dict[str, Tensor]) -> None:
    """Rows of items, of their observed parts, and of each completion."""
    columns = min(COLUMNS, len(x))
    rows = [x, x * observed, *(completed for name, completed in completions.items() if name != "mean")]
    folder.images("completion", torch.cat([row[:columns] for row in rows]), columns)


if __name__ == "__main__":
    run_command(main)
