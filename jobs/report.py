"""Write runs and searches, at work or finished, into one HTML page that needs no server and no network.

It shows what was run and how its settings differ from its preset and from the other runs, curves, samples along the
run, the verdict on convergence, metrics with their protocols, cost, and the faults survived; of a search its front,
slices, best trials and confirmation. Several runs stand side by side. The page says what the folders say: nothing is
measured anew, so later evaluations (jobs.evaluate) belong into the folder of their run.
"""

import contextlib
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from jobs import EXPERIMENTS
from jobs.cli.command import run_command
from jobs.cli.experiment import load_experiment, named_presets
from jobs.cli.parsing import parse
from jobs.cli.results import check_new_file
from pipeline.errors import InputError, RunReadError
from pipeline.progress import doing
from pipeline.runs.job import Job
from pipeline.runs.storage import Storage
from pipeline.search import SEARCH_FILE
from pipeline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Report(Settings):
    """What is shown, and where the page goes."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of runs and searches."""
    out: str
    """A new file, .html: a path, s3:// or gs://."""
    recipe_module: str = ""
    """Module that holds the runs' recipe, where it is not one of this package."""


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Report, argv, "python -m jobs.report", __doc__ or "")
    out = _check(args)
    from pipeline.report.differences import flat_settings  # here: refusing flags and showing help do not need the rest
    from pipeline.report.page import page
    from pipeline.runs.record import read_run
    from pipeline.search.record import read_search

    records, searches = [], []
    for run in args.runs:
        with doing(f"reading {Storage.at(run)}"), _refused(run):
            if Storage.at(run).check_exists(SEARCH_FILE):
                searches.append(read_search(run))
            else:
                records.append(read_run(run, [args.recipe_module] if args.recipe_module else []))
    presets = [_preset(record.job, flat_settings) for record in records]
    command = f"python -m jobs.report {shlex.join(args.runs)}"
    content = page(records, presets, searches, f"{time.strftime('%Y-%m-%d %H:%M %Z')}, by {command}").encode()
    out.parent.write(out.name, content)
    print(f"{'report':24} {args.out} ({len(content) / 1e6:.2g} MB)")


@contextlib.contextmanager
def _refused(run: str) -> Iterator[None]:
    """Turn a RunReadError into InputError, since nothing is written yet."""
    try:
        yield
    except RunReadError as e:
        raise InputError(str(e), "run", run) from e


def _check(args: Report) -> Storage:
    """The file to write. Raises InputError where it cannot be written, or where runs are not named well."""
    if not args.runs:
        raise InputError("name one run or more", "runs")
    places = [Storage.at(run).uri for run in args.runs]
    if twice := next((run for run, place in zip(args.runs, places, strict=True) if places.count(place) > 1), None):
        raise InputError("is named twice", "run", twice)
    return check_new_file(args.out, "out", ".html")


def _preset(job: Job[Any], flat_settings: Any) -> Job[Any] | None:
    """The preset of a run's name or else, of those with its recipe, the one from which fewest settings differ."""
    experiment = job.name.partition("-")[0]
    own = _presets([experiment]) if experiment in EXPERIMENTS else {}
    if job.name in own and type(own[job.name].recipe) is type(job.recipe):
        return own[job.name]
    settings = flat_settings(job)
    alike = [preset for preset in _presets(EXPERIMENTS).values() if type(preset.recipe) is type(job.recipe)]

    def difference(preset: Job[Any]) -> int:
        other = flat_settings(preset)
        return sum(other.get(name) != value for name, value in settings.items())

    return min(alike, key=difference, default=None)


def _presets(experiments: Iterable[str]) -> dict[str, Job[Any]]:
    return {job.name: job for one in experiments for job in named_presets(load_experiment(one)).values()}


if __name__ == "__main__":
    run_command(main)
