"""Checkpoints: whole or not at all, on any pyarrow filesystem; nothing is ever unpickled.

A checkpoint is a folder `update-N` of parts, which are trees of dicts and lists. Rank 0 writes the part `learner`, each
lane's rank the part `lane-P`. A part's tensors lie in a safetensors file of its own, everything else in `state.json`.
`manifest.json` comes last, with the hash of every file; without it, or with a hash that differs, the folder is not a
checkpoint.
"""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from numpy import ndarray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainResult
from pipeline.runs.storage import Storage

TENSOR = "tensor:"
INTEGER = "integer:"
"""Precedes a key that is a number, since JSON's keys are strings."""


def split_tensors(tree: Any, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """A tree whose tensors and arrays are replaced by strings that name them, and the tensors by that name."""
    if isinstance(tree, ndarray):
        tree = torch.tensor(tree)
    if isinstance(tree, Tensor):
        return TENSOR + path, {path: tree.detach().contiguous().cpu()}
    if isinstance(tree, Mapping):
        named = {f"{INTEGER}{k}" if isinstance(k, int) else k: v for k, v in tree.items()}
        parts = {k: split_tensors(v, f"{path}/{k}" if path else k) for k, v in named.items()}
        return {k: rest for k, (rest, _) in parts.items()}, {n: t for _, ts in parts.values() for n, t in ts.items()}
    if isinstance(tree, list | tuple):
        items = [split_tensors(v, f"{path}/{i}") for i, v in enumerate(tree)]
        return [rest for rest, _ in items], {n: t for _, ts in items for n, t in ts.items()}
    return tree, {}


def join_tensors(rest: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that `split_tensors` took apart."""
    if isinstance(rest, str) and rest.startswith(TENSOR):
        return tensors[rest.removeprefix(TENSOR)]
    if isinstance(rest, dict):
        named = {int(k.removeprefix(INTEGER)) if k.startswith(INTEGER) else k: v for k, v in rest.items()}
        return {k: join_tensors(v, tensors) for k, v in named.items()}
    if isinstance(rest, list):
        return [join_tensors(v, tensors) for v in rest]
    return rest


class WrittenPart(NamedTuple):
    """A part whose tensors are written."""

    name: str
    rest: Any
    """The tree without its tensors."""
    digest: str
    """SHA-256 of the tensors' file."""


def checkpoint_folder(checkpoints: Storage, update: int) -> Storage:
    """The folder of the checkpoint after `update` updates."""
    return checkpoints / f"update-{update:08d}"


def update_of(name: str) -> int:
    """The number of updates at the checkpoint of that name."""
    return int(name.removeprefix("update-"))


def write_part(place: Storage, name: str, tree: Any) -> WrittenPart:
    """Write the tensors of a part."""
    rest, tensors = split_tensors(tree)
    data = save_tensors(tensors)
    place.write(f"{name}.safetensors", data)
    return WrittenPart(name, rest, sha256(data).hexdigest())


def commit(place: Storage, parts: list[WrittenPart], state: Mapping[str, Any]) -> None:
    """Make a folder whose parts are all written a checkpoint."""
    rest = json.dumps({"state": state, "parts": {part.name: part.rest for part in parts}}).encode()
    place.write("state.json", rest)
    hashes = {f"{part.name}.safetensors": part.digest for part in parts} | {"state.json": sha256(rest).hexdigest()}
    place.write_json("manifest.json", hashes)


def is_whole(place: Storage) -> bool:
    """Whether every file of the manifest exists and has its hash.

    Raises:
        RunReadError: that cannot be found out, because the filesystem does not answer.
    """
    if not place.exists("manifest.json"):
        return False
    try:
        hashes = place.read_json("manifest.json")
        return all(sha256(place.read(name)).hexdigest() == digest for name, digest in hashes.items())
    except (FileNotFoundError, ValueError):
        return False


def _folder_names(checkpoints: Storage) -> list[str]:
    return [name for name in checkpoints.names() if re.fullmatch(r"update-\d+", name)]


def whole_names(checkpoints: Storage) -> list[str]:
    """The names of all whole checkpoints, oldest first."""
    return [name for name in _folder_names(checkpoints) if is_whole(checkpoints / name)]


def newest_name(checkpoints: Storage) -> str | None:
    """The name of the newest whole checkpoint, or None."""
    return next((name for name in reversed(_folder_names(checkpoints)) if is_whole(checkpoints / name)), None)


def remove_after(checkpoints: Storage, name: str) -> None:
    """Remove folders newer than the checkpoint that a run continues from: torn ones, which pruning must not count."""
    for later in [n for n in _folder_names(checkpoints) if n > name]:
        (checkpoints / later).delete()


def remove_unhealthy(checkpoints: Storage, last_target: int | None, before: int) -> None:
    """Remove what is newer than the checkpoint to roll back to: the newest healthy one, or nothing if there is none.

    Args:
        checkpoints: the run's.
        last_target: updates at the checkpoint of the last rollback, or None. If it would be that one again, the run
            rolls back to the one before, or to the start if the checkpoint is older than the history to judge it by.
        before: updates after which, as it turned out, the run was on its way to diverge.
    """
    states = {name: read_state(checkpoints / name) for name in whole_names(checkpoints)}
    healthy = [name for name, state in states.items() if state["healthy"] and state["update"] <= before]
    repeated = healthy and update_of(healthy[-1]) == last_target
    if repeated and (len(healthy) > 1 or not states[healthy[-1]]["has_history"]):
        healthy.pop()
    for name in states:
        if not healthy or name > healthy[-1]:
            (checkpoints / name).delete()


def prune(checkpoints: Storage, keep: int, every: int = 1) -> None:
    """Remove all but the newest `keep` checkpoints at multiples of `every` updates, and the newest one.

    So a run that was stopped in between, and continued, has the same checkpoints to return to as one that was not.
    """
    names = _folder_names(checkpoints)
    scheduled = [name for name in names if update_of(name) % every == 0]
    for name in {*names} - {*scheduled[-keep:], *names[-1:]}:
        (checkpoints / name).delete()


def read_state(place: Storage) -> dict[str, Any]:
    """What was committed beside the parts."""
    return dict(place.read_json("state.json")["state"])


def read_part(place: Storage, name: str) -> Any:
    """A part's tree, its tensors on the CPU."""
    return join_tensors(place.read_json("state.json")["parts"][name], load_tensors(place.read(f"{name}.safetensors")))


def pack(result: ChainResult) -> dict[str, Any]:
    """A result as the part of its lane holds it."""
    return {name: value for name, value in result._asdict().items() if name != "lane"}


def unpack(lane: Lane, fields: Mapping[str, Any]) -> ChainResult:
    """The result that `pack` took apart."""
    arrays: dict[str, Any] = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in fields.items()}
    carried = {name: t.numpy() for name, t in fields.get("carried", {}).items()}  # older checkpoints have none
    return ChainResult(lane=lane, **{**arrays, "carried": carried})
