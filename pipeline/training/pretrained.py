"""Networks that a run begins with, from another run's checkpoint."""

import dataclasses
from typing import Any

from pipeline.errors import InputError
from pipeline.nets.weights import Nets
from pipeline.runs import checkpoint
from pipeline.runs.job import Job, identity
from pipeline.runs.storage import Storage


def resolve_checkpoint(init_from: str) -> str:
    """The newest whole checkpoint of the run at a place, or the place itself if it is a checkpoint.

    Raises:
        BadInput: it is neither.
    """
    place = Storage.at(init_from)
    if place.exists("manifest.json"):
        found = place
    else:
        name = checkpoint.newest_name(place / "checkpoints") if place.seen("checkpoints") else None
        if name is None:
            raise InputError(f"--networks {init_from}: neither a run with a checkpoint, nor a checkpoint")
        found = place / "checkpoints" / name
    return found.path if found.local else f"{init_from.rstrip('/')}{found.path.removeprefix(place.path)}"


def check_pretrained(job: Job[Any], nets: Nets) -> Job[Any]:
    """The job, once it is seen that it has the networks it needs, with the very checkpoint that they are from.

    Raises:
        BadInput: there is no checkpoint, its networks are others, or one is missing that does not learn here.
    """
    job = dataclasses.replace(job, init_from=resolve_checkpoint(job.init_from) if job.init_from else "")
    if lacks := sorted(job.recipe.requires_pretrained - load_pretrained(job, nets)):
        what = lacks[0]
        raise InputError(f"{job.name} needs a {what} that has learned: --networks RUN, a run of python -m jobs.{what}")
    return job


def load_pretrained(job: Job[Any], nets: Nets) -> frozenset[str]:
    """Load those of a new run's networks that its job has from another run; their names.

    Raises:
        BadInput: there are none of the same names, or their settings differ.
    """
    if not job.init_from:
        return frozenset()
    place = Storage.at(job.init_from)
    if not checkpoint.is_whole(place):
        raise InputError(f"--networks {job.init_from} is no whole checkpoint (any more)")
    weights = checkpoint.read_part(place, "learner")["networks"]
    names = frozenset(nets.keys() & weights.keys())
    if not names:
        raise InputError(
            f"--networks {job.init_from}: it has {', '.join(sorted(weights))}, not {', '.join(sorted(nets))}"
        )
    for name in names:
        try:
            nets[name].load_state_dict(weights[name])
        except RuntimeError as e:
            theirs, own = (settings.get(f"recipe {name}") for settings in (_identity(place), identity(job, "")))
            why = f"it is {theirs}, not {own}" if theirs != own else str(e).splitlines()[-1].strip()
            raise InputError(f"--networks {job.init_from}: its {name} does not fit: {why}") from e
    return names


def _identity(place: Storage) -> dict[str, Any]:
    return dict(checkpoint.read_state(place)["identity"])
