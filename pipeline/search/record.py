"""SearchRecord: what the folder of a search says about it, whether it has ended or not."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.errors import InputError
from pipeline.runs.storage import Storage
from pipeline.runs.uri import without_secrets
from pipeline.search import SEARCH_FILE
from pipeline.search.objectives import OBJECTIVES, Objective
from pipeline.search.summary import TrialOutcome
from pipeline.search.trials import read_records


class SearchRecord(NamedTuple):
    """A search, as its folder tells it."""

    place: Storage
    folder: str
    """The same as the user names it, without secrets."""
    args: Mapping[str, Any]
    """The command's."""
    job: Mapping[str, Any]
    """What trials start from, as in job.json."""
    provenance: Mapping[str, str]
    trials: list[TrialOutcome]
    """Those that have reported; without a result their `gradients_per_sample` is not known, and 0."""
    objective: Objective | None
    """None as long as no trial has reported and the command named none."""
    result: Mapping[str, Any]
    """result.json; {} as long as the search has not ended."""


def read_search(run: str) -> SearchRecord:
    """The record of a search's folder.

    Raises:
        InputError: there is no search, or a file in it is not what this version writes.
    """
    place = Storage.at(run)
    if not place.check_exists(SEARCH_FILE):
        raise InputError(f"there is no search here: no {SEARCH_FILE}", "run", run)
    try:
        about = place.read_json(SEARCH_FILE)
        result = place.read_json("result.json") if place.exists("result.json") else {}
        records = read_records(place / "trials")
        names = [about["args"]["objective"], *(record["objective"] for record in records.values())]
        objective = OBJECTIVES[names[-1]] if names[-1] else None
        trials = _trials(place / "trials", records, result)
        about_it = about["args"], about["job"], about["provenance"]
        return SearchRecord(place, without_secrets(run), *about_it, trials, objective, result)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"a file in it cannot be read: {str(e).splitlines()[0]}", "run", run) from e


def _trials(folder: Storage, records: Mapping[str, Mapping[str, Any]], result: Mapping[str, Any]) -> list[TrialOutcome]:
    known, trials = {one["name"]: one for one in result.get("trials", [])}, []
    for name, record in records.items():
        reports = record["reports"]
        if one := known.get(name):
            complete, steps = one["complete"], one["gradients_per_sample"]
        else:  # the trial's own job has all the updates that its budget allows
            complete, steps = reports[-1]["updates"] >= (folder / name).read_json("job.json")["updates"], 0
        trials.append(TrialOutcome(name, record["settings"], reports, complete, steps))
    return trials
