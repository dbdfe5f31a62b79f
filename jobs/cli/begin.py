"""Whether a command begins something in a folder, or goes on with what is there."""

import shlex
from typing import Any

from jobs.cli.first_stage import FOLDER
from pipeline.errors import InputError
from pipeline.runs.job import Job, override
from pipeline.runs.job_json import flatten, to_json
from pipeline.runs.storage import PART_SUFFIX, Storage
from pipeline.search import SEARCH_FILE

DESCRIPTIONS = {"run": "job.json", "search": SEARCH_FILE}
"""The file that is written first, by what is in a folder."""


def is_begun(storage: Storage, what: str, out: str, resume_if_exists: bool) -> bool:
    """Whether a folder holds work that the command continues.

    Args:
        storage: the folder.
        what: run or search.
        out: the folder, as the user names it.
        resume_if_exists: whether the user wants what is there to continue.

    Raises:
        InputError: it exists and must not, or holds something else.
    """
    if not storage.check_exists():
        return False
    left, description = storage.names(), DESCRIPTIONS[what]
    if left and {*left} <= {f"{description}{PART_SUFFIX}", FOLDER}:  # what a command leaves which dies before
        return False
    if not resume_if_exists:
        how = f"continue it with --resume-if-exists, or jobs.resume {shlex.quote(out)}"
        raise InputError(f"exists: a {what} is never overwritten; {how}", "out", out)
    if description in left:
        return True
    if left:
        raise InputError(f"has other files, and no {description}", "out", out)
    return False


def check_same(job: Job[Any], own: Job[Any]) -> None:
    """Raise InputError for the first setting in which a job differs from that of its run folder, but for `minutes`.

    A job that starts with the networks of a run is the same whichever of its checkpoints was the newest at the start.
    """
    new, old = (flatten(to_json(override(one, out="", minutes=0))) for one in (job, own))
    if job.init_from and own.init_from:
        checkpoints = Storage.at(job.init_from) / "checkpoints"
        new["init_from"] = own.init_from if Storage.at(own.init_from).parent.uri == checkpoints.uri else job.init_from
    if path := next((path for path in new if new[path] != old.get(path)), None):
        why = f"the run has {old.get(path)}; jobs.resume {shlex.quote(own.out)} changes what may change"
        raise InputError(why, path.rpartition(".")[2], new[path])
