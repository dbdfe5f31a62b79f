"""Who works on a run: the last that began to. Whoever worked on it before finds out before it writes, and stops.

A driver that dies may leave learners behind for some seconds, and a cut-off machine for longer; a run may be resumed
by mistake while it runs. So each command names itself in the run folder's lease.json, and so does each group of
learners that it starts; rank 0 looks there before it commits a checkpoint, prunes, or writes what readers see.
"""

import json
import os
import socket
import time
import uuid
from typing import Any, NamedTuple

from pipeline.errors import LeaseLost
from pipeline.runs.storage import Storage

FILE = "lease.json"


class Lease(NamedTuple):
    """A group of learners at work, of one command."""

    out: Storage
    start: str
    """Names the command."""
    group: int
    """Counts the groups of learners of that command, from 1."""
    restarts: int
    """Groups that a run has had, over all commands, beyond the first of each: deaths of learners, and resizes."""

    def check(self) -> None:
        """Go on only if nobody has begun to work on the run since.

        Raises:
            TakenOver: somebody has.
        """
        found = _read(self.out)
        if (found.get("start"), found.get("group")) != (self.start, self.group):
            raise LeaseLost(_taken(self.out, found))


def acquire(out: Storage) -> str:
    """Begin a command's work on a run, whoever worked on it before; what names the command to its learners."""
    start = uuid.uuid4().hex
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    restarts = _read(out).get("learner_restarts", 0)
    out.write_json(FILE, {"start": start, "group": 0, "learner_restarts": restarts, **about})
    return start


def join(out: Storage, start: str) -> Lease:
    """Begin a group's work for the command that is named `start`; whatever group it had before is to stop.

    Raises:
        TakenOver: another command works on the run.
    """
    require_command(out, start)
    found = _read(out)
    owner = Lease(out, start, found["group"] + 1, found["learner_restarts"] + (found["group"] > 0))
    out.write_json(FILE, {**found, "group": owner.group, "learner_restarts": owner.restarts})
    return owner


def require_command(out: Storage, start: str) -> None:
    """Go on only while the command that is named `start` works on the run, with whichever group.

    Raises:
        TakenOver: another command does.
    """
    found = _read(out)
    if found.get("start") != start:
        raise LeaseLost(_taken(out, found))


def _read(out: Storage) -> dict[str, Any]:
    """What the file says; nothing if there is none, or it was torn by a machine that died."""
    if not out.exists(FILE):
        return {}
    try:
        return dict(out.read_json(FILE))
    except json.JSONDecodeError:
        return {}


def _taken(out: Storage, found: dict[str, Any]) -> str:
    by = f"process {found['pid']} on {found['host']}, since {found['since']}" if found else "nobody: lease.json is gone"
    return f"{out.path} is worked on by {by}; so this one stops"
