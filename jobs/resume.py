"""Continue a run from its newest whole checkpoint, or a search (jobs.search) where it stopped.

A run may change its length, the machines it uses, what it logs, its final evaluation, and what it does when it
diverges; everything else stays. Without a flag, a setting keeps the run's own value, not the default below. A search
continues without flags.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import tyro

from jobs import search
from jobs.cli.command import run_command
from jobs.cli.parsing import parse
from pipeline.errors import InputError
from pipeline.runs.job import (
    DivergenceSettings,
    EvaluationSettings,
    Job,
    LoggingSettings,
    ResourceSettings,
)
from pipeline.runs.job_json import load_run
from pipeline.runs.storage import Storage
from pipeline.search import SEARCH_FILE
from pipeline.settings import PositiveInt, Settings


@dataclass(frozen=True)
class Resume(Settings):
    """The run, and the settings that it may change."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run or search."""
    recipe_module: str = ""
    """Module that holds the run's recipe, where it is not one of this package."""
    updates: PositiveInt | None = None
    """Updates of the weights, in all; None: as before."""
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    divergence: DivergenceSettings = field(default_factory=DivergenceSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)


def main(args: Sequence[str]) -> None:
    """The command."""
    first = _parse(args)
    if Storage.at(first.run).check_exists(SEARCH_FILE):
        if flags := [word for word in args if word.startswith("--")]:
            raise InputError(f"{flags[0]}: a search continues with its own settings, without flags")
        return search.resume(first.run)
    job = _changed_job(args, first)
    from jobs.cli.launch import continue_run  # here: refusing settings does not need the rest

    continue_run(job)


def _parse(args: Sequence[str], default: Any = tyro.MISSING_NONPROP) -> Resume:
    return parse(Resume, args, "python -m jobs.resume", __doc__ or "", default)


def _changed_job(args: Sequence[str], first: Resume) -> Job[Any]:
    """The run's job with the settings that the flags change: read once more, with the run's own as defaults."""
    job = load_run(first.run, [first.recipe_module] if first.recipe_module else ())
    own = Resume(first.run, "", job.updates, job.resources, job.divergence, job.logging, job.evaluation)
    new = _parse(args, own)
    groups = {name: getattr(new, name) for name in ("resources", "divergence", "logging", "evaluation")}
    return replace(job, updates=new.updates or job.updates, **groups)


if __name__ == "__main__":
    run_command(main)
