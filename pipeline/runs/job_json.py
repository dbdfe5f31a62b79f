"""A job as JSON: job.json, and the identity that a checkpoint shares with its run."""

import dataclasses
import sys
from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.runs.job import Job
from pipeline.runs.storage import Storage
from pipeline.runs.uri import without_secrets

FORMAT = 5
"""Version of job.json and of checkpoints; a run folder of another version is refused."""


def to_json(job: Job[Any]) -> dict[str, Any]:
    """Every setting, and the format; `recipe` names its own type. URIs are without secrets."""
    kind = type(job.recipe)
    settings = TypeAdapter(Any).dump_python(job, mode="json")
    settings["recipe"] = {"type": f"{kind.__module__}.{kind.__qualname__}", **settings["recipe"]}
    for group, name in ((settings, "out"), (settings, "init_from"), (settings["data"], "source")):
        group[name] = without_secrets(group[name])
    return {"format": FORMAT, **settings}


def flatten(settings: Mapping[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Nested settings by their paths.

    >>> flatten({"updates": 10, "recipe": {"langevin": {"steps": 5}}})
    {'updates': 10, 'recipe.langevin.steps': 5}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        path = f"{prefix}{name}"
        flat |= flatten(value, separator, f"{path}{separator}") if isinstance(value, Mapping) else {path: value}
    return flat


def load_run(run: str, modules: Collection[str] = ()) -> Job[Any]:
    """The job of a run folder, wherever the folder is now.

    Args:
        run: the folder.
        modules: modules outside this package that may hold the run's recipe.

    Raises:
        InputError: there is no run, or it is of another version.
    """
    storage = Storage.at(run)
    if not storage.check_exists("job.json"):
        raise InputError("there is no run here: no job.json", "run", run)
    try:
        settings = storage.read_json("job.json")
    except ValueError as e:
        raise InputError(f"job.json is not JSON: {e}", "run", run) from e
    try:
        job = from_json(settings, modules)
    except InputError as e:
        if e.field:
            raise
        raise InputError(e.why, "run", run) from e
    return dataclasses.replace(job, out=storage.uri)


def has_finished(storage: Storage) -> bool:
    """Whether the run in a folder has ended well; one that has diverged has not, and may go on."""
    return storage.exists("result.json") and "diverged" not in storage.read_json("result.json")


def from_json(settings: dict[str, Any], modules: Collection[str] = ()) -> Job[Any]:
    """The job that `to_json` wrote.

    The recipe's class is looked up in this package, in modules that are already imported, and in `modules`, which the
    user names. Nothing else is imported because a file says so.

    Raises:
        InputError: it is no job of this format, or of a recipe in another module.
    """
    if settings.get("format") != FORMAT:
        was = f"has format {settings['format']}" if "format" in settings else "has an older format"
        raise InputError(f"it {was}, this version reads {FORMAT}: train again, or use the version before")
    try:
        settings = {k: v for k, v in settings.items() if k not in ("format", "provenance")}
        recipe = dict(settings["recipe"])
        kind = _recipe_class(recipe.pop("type"), modules)
        adapter: TypeAdapter[Job[Any]] = TypeAdapter(cast(Any, Job)[kind])
        job = adapter.validate_python({**settings, "recipe": recipe})
        if unknown := (settings.keys() - to_json(job).keys()) | (recipe.keys() - to_json(job)["recipe"].keys()):
            raise ValueError(f"it has no {', '.join(sorted(unknown))}")
        return job
    except (KeyError, TypeError, ValueError, ImportError, AttributeError, ValidationError) as e:
        raise InputError(f"job.json is not a job of this version: {str(e).splitlines()[0]}") from e


def _recipe_class(name: str, modules: Collection[str]) -> type:
    module, _, kind = name.rpartition(".")
    if not (module.startswith("pipeline.recipes.") or module in modules or module in sys.modules):
        raise InputError("the run's recipe is in this module: name it, if you trust it", "recipe_module", module)
    found = getattr(import_module(module), kind)
    if not (dataclasses.is_dataclass(found) and isinstance(found, type) and Recipe in found.__mro__):
        raise TypeError(f"{name} is no recipe")
    return found


def identity(job: Job[Any], fingerprint: str, update: int) -> dict[str, Any]:
    """What a checkpoint must share with the run that continues from it.

    Args:
        job: of the run.
        fingerprint: of its data.
        update: the first update of which nothing was computed. What changes there or later is not part of the identity.
    """
    settings = to_json(job)
    recipe = {f"recipe {k}": v for k, v in settings["recipe"].items()}
    changes = [one for one in settings["changes"] if one[0] < update]
    return {
        "format": FORMAT,
        **recipe,
        "lanes": job.lanes,
        "data": fingerprint,
        **({"changes": changes} if changes else {}),
    }


def check_identity(job: Job[Any], fingerprint: str, state: Mapping[str, Any], where: str) -> None:
    """Raise InputError where the checkpoint at `where`, which `state` was committed with, belongs to another run."""
    own, found = identity(job, fingerprint, state["next"]), state["identity"]
    for what in [*own, *(found.keys() - own.keys())]:
        if found.get(what) != own.get(what):
            raise InputError(f"{where} belongs to another run: its {what} is {found.get(what)}, not {own.get(what)}")
