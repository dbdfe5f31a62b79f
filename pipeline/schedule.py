"""Schedules: settings of a recipe that change while it learns, as a function of the update."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.nets.weights import Nets
from pipeline.recipe import Recipe, init_networks
from pipeline.settings import PositiveInt

T = TypeVar("T")

Setting: TypeAlias = bool | int | float | str


class Change(NamedTuple):
    """Settings of a recipe from an update on, until they change again; as a word, UPDATE:FIELD=VALUE,FIELD=VALUE.

    >>> str(Change(1000, {"noise": 0.05, "steps": 40}))
    '1000:noise=0.05,steps=40'
    """

    update: PositiveInt
    """The first update, counted from 0, that has them."""
    settings: Mapping[str, Setting]
    """By the name of the field, of the recipe or of a group of settings in it, as flags have them."""

    def __str__(self) -> str:
        return f"{self.update}:" + ",".join(f"{name}={value}" for name, value in self.settings.items())


def with_settings(recipe: T, settings: Mapping[str, Setting]) -> T:
    """A recipe with other values of some fields, its own or those of groups of settings in it.

    Raises:
        InputError: there is no such field, or a value is out of bounds.

    >>> from pipeline import ShortRun
    >>> with_settings(ShortRun(), {"noise": 0.05, "lr": 1e-3}).langevin.noise
    0.05
    """
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):  # type: ignore[arg-type]
        value = getattr(recipe, field.name)
        if field.name in settings:
            changed[field.name] = settings[field.name]
        elif dataclasses.is_dataclass(value):
            own = settings.keys() & flat_settings(value).keys()
            changed |= {field.name: with_settings(value, {name: settings[name] for name in own})} if own else {}
    if unknown := settings.keys() - flat_settings(recipe).keys():
        raise InputError(f"{type(recipe).__name__} has no {min(unknown)}", "changes", min(unknown))
    return dataclasses.replace(recipe, **changed)  # type: ignore[type-var]


def flat_settings(recipe: Any) -> dict[str, Any]:
    """The fields of a recipe and of the groups of settings in it, by name."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        flat |= flat_settings(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return flat


def changed_settings(before: Any, after: Any) -> dict[str, Any]:
    """The settings, by name, in which a recipe differs from another of its kind."""
    old = flat_settings(before)
    return {name: value for name, value in flat_settings(after).items() if name not in old or old[name] != value}


def settings_at(changes: Sequence[Change], update: int) -> dict[str, Setting]:
    """The settings that differ from the recipe's own at an update."""
    return {name: value for one in changes if one.update <= update for name, value in one.settings.items()}


def check_changes(recipe: Recipe, changes: Sequence[Change], spec: Spec | None = None) -> None:
    """Raise InputError for changes that do not follow each other, or that alter more than a learner can take over.

    Networks, optimizers, banks, and numbers of items and chains stay as they are.

    Args:
        recipe: of the run.
        changes: of its settings.
        spec: of the data; None: networks are not compared.
    """
    before = 0
    for change in changes:
        if change.update <= before:
            raise InputError("changes must be in the order of their updates", "changes", str(change))
        before = change.update
        try:
            after = with_settings(recipe, settings_at(changes, change.update))
        except InputError as e:
            why = e.why if e.field == "changes" else f"{e.field} {e.why}"
            raise InputError(why, "changes", str(change)) from e
        if altered := _altered(recipe, after, spec):
            raise InputError(f"{altered} cannot change while a run learns", "changes", str(change))


def _altered(recipe: Recipe, after: Recipe, spec: Spec | None) -> str:
    """What two recipes do not share though one run needs it; empty: they share it all."""
    same = ("sample_chain", "class_chain", "frozen", "requires_pretrained", "data_kinds")
    if any(getattr(recipe, name) != getattr(after, name) for name in same):
        return "the kind of chains and networks"
    if dict(recipe.streams) != dict(after.streams):
        return "the size of batches"
    own, theirs = (
        {name: dataclasses.replace(chain, restart_prob=0.0) for name, chain in one.chains.items()}
        for one in (recipe, after)
    )
    if own != theirs:
        return "the number of chains, their bank and the streams they start from"
    if spec is None:
        return ""
    before, now = (init_networks(one, spec, 0, torch.device("cpu")) for one in (recipe, after))
    if not _equal(before, now):
        return "the networks"
    if _optimizer_kinds(recipe, before) != _optimizer_kinds(after, now):
        return "the optimizer"
    return ""


def _equal(one: Nets, other: Nets) -> bool:
    """Whether networks of the same seed have the same weights, modules and settings of modules."""
    if one.keys() != other.keys():
        return False
    for name, net in one.items():
        modules, others = list(net.modules()), list(other[name].modules())
        if [_description(m) for m in modules] != [_description(m) for m in others]:
            return False
        weights, theirs = net.state_dict(), other[name].state_dict()
        if weights.keys() != theirs.keys() or any(not torch.equal(weights[k], theirs[k]) for k in weights):
            return False
    return True


def _description(module: torch.nn.Module) -> tuple[type, dict[str, Any]]:
    plain = (bool, int, float, str, tuple)
    return type(module), {k: v for k, v in vars(module).items() if isinstance(v, plain) or dataclasses.is_dataclass(v)}


def _optimizer_kinds(recipe: Recipe, nets: Nets) -> dict[str, tuple[type, int]]:
    return {name: (type(one), len(one.param_groups)) for name, one in recipe.optimizers(nets).items()}
