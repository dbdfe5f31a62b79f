"""The runs of a report: what each is called, and which differ in their seed alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.runs.job import Job
from pipeline.runs.job_json import flatten, to_json
from pipeline.runs.record import RunRecord

COLOURS = 7
"""Colours in the style sheet; a report with more settings uses them again."""
SHADES = 3
"""Shades of each, for the seeds of one setting."""
UNLIKE_SETTINGS = ("seed", "out", "name", "init_from", "resources.", "logging.")
"""Beginnings of settings in which runs of one setting may differ."""


class ReportedRun(NamedTuple):
    """A run, and how the report shows it."""

    record: RunRecord
    preset: Job[Any] | None
    """That the run began as, or the nearest one."""
    label: str
    setting: int
    """Number of its setting: runs of the same number differ in their seed alone, as far as numbers depend on it."""
    style: str
    """Classes of its colour: one colour for a setting, one shade for a seed."""


def line_up(records: Sequence[RunRecord], presets: Sequence[Job[Any] | None]) -> list[ReportedRun]:
    """The runs of a report, from their records and presets."""
    labels, settings, members = _labels(records), list[dict[str, Any]](), dict[int, int]()
    runs = []
    for record, preset, label in zip(records, presets, labels, strict=True):
        own = {k: v for k, v in flatten(to_json(record.job)).items() if not k.startswith(UNLIKE_SETTINGS)}
        if own not in settings:
            settings.append(own)
        number = settings.index(own)
        shade = members[number] = members.get(number, -1) + 1
        style = f"c{number % COLOURS} shade{shade % SHADES}"
        runs.append(ReportedRun(record, preset, label, number, style))
    return runs


def seed_groups(runs: Sequence[ReportedRun]) -> dict[int, list[ReportedRun]]:
    """Settings, by number, that several runs have with several seeds."""
    by_setting: dict[int, list[ReportedRun]] = {}
    for run in runs:
        by_setting.setdefault(run.setting, []).append(run)
    return {number: some for number, some in by_setting.items() if len({run.record.job.seed for run in some}) > 1}


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """The shortest labels that tell the runs apart: names, then seeds or folders, then whole places."""
    jobs = [record.job for record in records]
    names = [job.name or record.place.name for job, record in zip(jobs, records, strict=True)]
    seeds = [f"{name}, seed {job.seed}" for name, job in zip(names, jobs, strict=True)]
    folders = [record.place.name for record in records]
    return next(
        (some for some in (names, seeds, folders) if len({*some}) == len(some)), [record.folder for record in records]
    )
