"""The lease on a run folder: only the command that started last, and its last group of learners, may write there.

A driver that dies may leave learners behind for some seconds, and a machine that is cut off for longer; a run may also
be resumed by mistake while it is at work. So every command writes its id into the run folder's lease.json, and so does
every group of learners that it starts. Rank 0 reads the file before it commits or prunes a checkpoint and before it
writes what readers see; if the id is no longer its own, it stops. Reading and writing are two steps; the worst that can
slip in between is one torn checkpoint.
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
    """The right of one group of learners to write into a run folder."""

    out: Storage
    command: str
    """Id of the command."""
    group: int
    """Number of the group of learners within the command, from 1."""
    restarts: int
    """Groups beyond the first of each command, over all commands: deaths of learners, and resizes."""

    def check(self) -> None:
        """Raise LeaseLost if another command or group has taken over the run."""
        current = _read(self.out)
        if (current.get("command"), current.get("group")) != (self.command, self.group):
            raise LeaseLost(_reason(self.out, current))


def acquire(out: Storage) -> str:
    """Take over a run for a new command; the id of the command, which its learners need."""
    command = uuid.uuid4().hex
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    restarts = _read(out).get("learner_restarts", 0)
    out.write_json(FILE, {"command": command, "group": 0, "learner_restarts": restarts, **about})
    return command


def join(out: Storage, command: str) -> Lease:
    """Take over a run for a new group of learners of a command; the group before it must stop.

    Raises:
        LeaseLost: another command works on the run.
    """
    require_command(out, command)
    current = _read(out)
    lease = Lease(out, command, current["group"] + 1, current["learner_restarts"] + (current["group"] > 0))
    out.write_json(FILE, {**current, "group": lease.group, "learner_restarts": lease.restarts})
    return lease


def require_command(out: Storage, command: str) -> None:
    """Raise LeaseLost unless the command, with any of its groups, works on the run."""
    current = _read(out)
    if current.get("command") != command:
        raise LeaseLost(_reason(out, current))


def restart_count(out: Storage) -> int:
    """Groups of learners beyond the first of each command, over all commands so far."""
    return int(_read(out).get("learner_restarts", 0))


def _read(out: Storage) -> dict[str, Any]:
    """The file's content; {} if there is none, or it was torn by a machine that died."""
    if not out.exists(FILE):
        return {}
    try:
        return dict(out.read_json(FILE))
    except json.JSONDecodeError:
        return {}


def _reason(out: Storage, current: dict[str, Any]) -> str:
    if not current:
        return f"{out}: lease.json is gone, so this command stops"
    worker = f"process {current['pid']} on {current['host']} since {current['since']}"
    return f"{out}: {worker} works on the run, so this command stops"
