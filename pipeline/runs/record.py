"""RunRecord: what a run folder says about its run, at work or not; nothing is measured anew, and no data are read."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from pipeline.errors import InputError
from pipeline.runs import lease
from pipeline.runs.counters import FAULTS, Counters
from pipeline.runs.job import Job
from pipeline.runs.job_json import load_run
from pipeline.runs.journal import METRICS_FILE, read_metrics
from pipeline.runs.storage import Storage
from pipeline.runs.uri import without_secrets

OWN_FOLDERS = {"checkpoints", "samples", "figures", "observe", "ray", "search", "flow"}
"""Folders of a run that are no results of other commands."""


class RunRecord(NamedTuple):
    """A run, as its folder tells it."""

    place: Storage
    folder: str
    """The same as the user names it, without secrets."""
    job: Job[Any]
    provenance: Mapping[str, str]
    """Versions and commit that the run was started with."""
    rows: list[dict[str, Any]]
    """Lines of metrics.jsonl."""
    result: Mapping[str, Any]
    """result.json; {} where the run has not finished, or diverged."""
    state: Mapping[str, Any]
    """What the newest checkpoint says beside its tensors; {} before the first one."""
    diverged: str
    """Why the run diverged for good; empty if it did not."""
    learner_restarts: int
    evaluations: Mapping[str, Mapping[str, Any]]
    """result.json of the evaluations in the run's folder, by the name of their folder, oldest checkpoint first."""
    pictures: Mapping[str, list[str]]
    """Names of files in the folders samples, figures, observe and those of evaluations, by folder."""
    written: str
    """When metrics.jsonl was last written to, in UTC; empty if it was not."""

    @property
    def updates(self) -> int:
        """Updates that the run has made, as far as its folder says."""
        logged = self.rows[-1]["update"] + 1 if self.rows else 0
        return int(self.result["updates"] if self.result else max(logged, self.state.get("update", 0)))

    @property
    def counters(self) -> dict[str, Any]:
        """Cost and faults by name, as of the result or else of the newest checkpoint; {} before that."""
        if self.result:
            cost = {name: self.result[name] for name in asdict(Counters()) if name in self.result}
            return {**cost, **self.result["faults"]}
        if not self.state:
            return {}
        return {**{name: self.state[name] for name in asdict(Counters())}, "learner_restarts": self.learner_restarts}

    @property
    def rollbacks(self) -> list[dict[str, Any]]:
        """`{update, resumed_at, reason}` of each."""
        if self.result:
            return list(self.result["rollbacks"])
        names = ("update", "resumed_at", "reason")
        return [dict(zip(names, one, strict=True)) for one in self.state.get("rollbacks", [])]


FAULT_NAMES = (*FAULTS, "learner_restarts")
"""Counters of faults, as result.json has them."""


def read_run(run: str, modules: Collection[str] = ()) -> RunRecord:
    """The record of a run folder.

    Args:
        run: the folder.
        modules: modules outside this package that may hold the run's recipe.

    Raises:
        InputError: there is no run, it is of another version, or a file in it is not what this version writes.
    """
    job, place = load_run(run, modules), Storage.at(run)
    try:
        return _read(job, place, without_secrets(run))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"a file in it cannot be read: {str(e).splitlines()[0]}", "run", run) from e


def _read(job: Job[Any], place: Storage, folder: str) -> RunRecord:
    names = place.names()
    end = place.read_json("result.json") if "result.json" in names else {}
    evaluations = _evaluations(place, names)
    folders = {"samples", "figures", "observe", *evaluations} & set(names)
    return RunRecord(
        place,
        folder,
        job,
        place.read_json("job.json").get("provenance", {}),
        read_metrics(place),
        {} if "diverged" in end else end,
        _newest_state(place / "checkpoints"),
        end["diverged"]["reason"] if "diverged" in end else "",
        lease.restart_count(place),
        evaluations,
        {folder: (place / folder).names() for folder in sorted(folders)},
        _last_write(place) if METRICS_FILE in names else "",
    )


def _evaluations(place: Storage, names: list[str]) -> dict[str, Mapping[str, Any]]:
    """What `jobs.evaluate` has written into folders of the run."""
    found = {}
    for name in names:
        if "." not in name and name not in OWN_FOLDERS and (place / name).exists("result.json"):
            content = (place / name).read_json("result.json")
            if "protocols" in content:
                found[name] = content
    return dict(sorted(found.items(), key=lambda item: (item[1]["update"], item[0])))


def _newest_state(checkpoints: Storage) -> dict[str, Any]:
    """The state of the newest checkpoint, whose tensors are not read; {} if there is none."""
    for name in reversed([name for name in checkpoints.names() if name.startswith("update-")]):
        try:
            checkpoints.read(f"{name}/manifest.json")
            return dict(checkpoints.read_json(f"{name}/state.json")["state"])
        except (FileNotFoundError, json.JSONDecodeError):  # not whole yet, or removed
            continue
    return {}


def _last_write(place: Storage) -> str:
    time = place.fs.get_file_info(f"{place.path}/{METRICS_FILE}").mtime
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else ""
