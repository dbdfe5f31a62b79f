"""Networks that a run takes over from another run's checkpoint."""

import dataclasses
from typing import Any

import torch

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.nets.weights import Nets
from pipeline.recipe import init_networks
from pipeline.runs import checkpoint
from pipeline.runs.job import Job
from pipeline.runs.job_json import identity
from pipeline.runs.storage import Storage


def resolve_checkpoint(place: str) -> str:
    """The newest whole checkpoint of the run at `place`, or `place` itself if it is a checkpoint.

    Raises:
        InputError: it is neither.
    """
    storage = Storage.at(place)
    if storage.check_exists("manifest.json"):
        return storage.uri
    name = checkpoint.newest_name(storage / "checkpoints")
    if name is None:
        raise InputError("neither a run with a checkpoint nor a checkpoint", "init_from", place)
    return (storage / "checkpoints" / name).uri


def check_pretrained(job: Job[Any], spec: Spec) -> Job[Any]:
    """The job with `init_from` resolved to a checkpoint, once it is certain to provide the networks that are required.

    Raises:
        InputError: the recipe does not accept such data, there is no checkpoint, its networks do not fit, or a required
            network is missing.
    """
    nets = init_networks(job.recipe, spec, job.seed, torch.device("cpu"))
    job = dataclasses.replace(job, init_from=resolve_checkpoint(job.init_from) if job.init_from else "")
    if missing := sorted(job.recipe.requires_pretrained - load_pretrained(job, nets)):
        name = missing[0]
        why = f"{type(job.recipe).__name__} needs a trained {name}: name a run of jobs.{name}"
        raise InputError(why, "init_from", job.init_from or "''")
    return job


def load_pretrained(job: Job[Any], nets: Nets) -> frozenset[str]:
    """Load the weights of the networks that also exist in `job.init_from`; their names.

    Raises:
        InputError: no network has the same name, or their settings differ.
    """
    if not job.init_from:
        return frozenset()
    place = Storage.at(job.init_from)
    if not checkpoint.is_whole(place):
        raise InputError("not a whole checkpoint (any more)", "init_from", job.init_from)
    weights = checkpoint.read_part(place, "learner")["networks"]
    names = frozenset(nets.keys() & weights.keys())
    if not names:
        why = f"it has {', '.join(sorted(weights))}, not {', '.join(sorted(nets))}"
        raise InputError(why, "init_from", job.init_from)
    for name in names:
        try:
            nets[name].load_state_dict(weights[name])
        except RuntimeError as e:
            there = checkpoint.read_state(place)["identity"]
            theirs, own = (some.get(f"recipe {name}") for some in (there, identity(job, "", 0)))
            reason = f"it is {theirs}, not {own}" if theirs != own else str(e).splitlines()[-1].strip()
            raise InputError(f"its {name} does not fit: {reason}", "init_from", job.init_from) from e
    return names
