"""Observer: says from a run's checkpoints whether the run converges; it never changes the run.

It writes files of its own: `observe.jsonl` with one line per observation, and the folder `observe` with a TensorBoard
file and figures. An observation is a function of checkpoint and seed; which checkpoints are observed depends on time.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pipeline.batch import Spec
from pipeline.chains.local_pool import Pool
from pipeline.errors import InputError
from pipeline.evaluation.comparison import Comparison, default_comparison
from pipeline.evaluation.convergence import figures
from pipeline.evaluation.convergence.evidence import REACH, Evidence, default_chains, gather_evidence
from pipeline.evaluation.convergence.verdict import Verdict, decide, to_json
from pipeline.recipe import init_networks
from pipeline.runs import lease
from pipeline.runs.job import Job
from pipeline.runs.snapshot import Snapshot, newest_snapshot
from pipeline.runs.storage import Storage, Versions
from pipeline.sampling.draw import ChainStart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS_FILE = "observe.jsonl"
FOLDER = "observe"


class CheckpointId(NamedTuple):
    """Identifies a checkpoint's content: a checkpoint of the same name may be written again."""

    name: str
    manifest: bytes


def check_observable(job: Job[Any], spec: Spec) -> None:
    """Raise InputError where there is nothing to observe because no chain moves the model's samples."""
    recipe = job.recipe
    sampler = recipe.sampler(recipe.sample_chain, init_networks(recipe, spec, job.seed, torch.device("cpu")), 0)
    if not sampler.gradient_evaluations:
        why = "the model samples without a chain, so there is nothing to observe: use 0"
        raise InputError(why, "observers", job.resources.observers)


def read_rows(out: Storage) -> list[dict[str, Any]]:
    """All observations of a run so far, in their order."""
    return [json.loads(line) for line in out.read(ROWS_FILE).splitlines()] if out.exists(ROWS_FILE) else []


def truncate_rows(out: Storage, update: int) -> None:
    """Remove the observations after `update`, from which the run continues."""
    rows = read_rows(out)
    if before := [row for row in rows if row["update"] <= update]:
        _write(out, before)
    elif rows:
        out.remove(ROWS_FILE)


def _write(out: Storage, rows: list[dict[str, Any]]) -> None:
    out.write(ROWS_FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())


class Observer:
    """Observes a run's newest checkpoint, again and again, on one device and with any pool."""

    def __init__(self, job: Job[Any], since: int, device: torch.device, pool: Pool, command: str):
        """An observer of a run that continues from update `since`.

        Args:
            job: the run.
            since: updates that it had made when the command began.
            device: of the networks in this process; the pool has its own.
            pool: moves the chains.
            command: the id from `lease.acquire`: once another command works on the run, nothing more is written.
        """
        from torch.utils.tensorboard import SummaryWriter  # here, because the import takes a second

        self.job, self.device, self.pool, self.command = job, device, pool, command
        self.out = Storage.at(job.out)
        self.rows = read_rows(self.out)
        self.last: CheckpointId | None = None
        """The checkpoint of the last observation."""
        self.comparison: Comparison | None = None
        self.has_comparison = False
        local = self.out.local
        self.folder = Path(self.out.path) / FOLDER if local else Path(tempfile.mkdtemp(prefix="ebm-observe-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.copied: Versions = {}
        self.writer = SummaryWriter(str(self.folder), purge_step=since + 1)

    def has_news(self) -> bool:
        """Whether there is a checkpoint that was not observed; it may not be whole yet."""
        return self._newest() not in (None, self.last)

    def observe(self, stop: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """Observe the newest whole checkpoint, if it is new, and write the observation.

        Args:
            stop: called after every K steps of the chains; True ends the chains, and the observation uses what it has.

        Returns:
            The observation; None where there is no new checkpoint, or the chains ended too early for evidence.

        Raises:
            InputError: there is no whole checkpoint.
            RunWriteError: the run folder cannot be written to.
            LeaseLost: another command works on the run.
        """
        start, cpu_start = time.perf_counter(), time.process_time()
        self.last = self._newest()  # first, so that a fault does not repeat itself
        snapshot = newest_snapshot(self.job, self.device)
        if self.rows and (self.rows[-1]["attempt"], self.rows[-1]["update"]) == (snapshot.attempt, snapshot.update):
            return None
        if not self.has_comparison:
            self.comparison, self.has_comparison = default_comparison(snapshot.data, self.device), True
        result = gather_evidence(snapshot, self.pool, self.comparison, *default_chains(snapshot, self.job.seed), stop)
        if result is None or (result[0].finite and result[0].reach < REACH and self.has_news()):
            return None
        evidence, data = result
        verdict = decide(evidence)
        cost = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
        self._report(snapshot, evidence, verdict, data, {**to_json(evidence, verdict), **cost})
        return dict(self.rows[-1])

    def record_divergence(self, why: str) -> None:
        """Write that the run itself found that it diverged, with the numbers of the last observation."""
        last = self.rows[-1] if self.rows else {"update": 0, "attempt": 0}
        self.rows.append({**last, "verdict": "diverging", "why": why})
        _write(self.out, self.rows)

    def close(self) -> None:
        """Close the files."""
        self.writer.close()
        if not self.out.local:
            shutil.rmtree(self.folder)

    def _newest(self) -> CheckpointId | None:
        checkpoints = self.out / "checkpoints"
        for name in reversed([name for name in checkpoints.names() if name.startswith("update-")]):
            try:
                return CheckpointId(name, checkpoints.read(f"{name}/manifest.json"))
            except OSError:  # not whole yet, or removed
                continue
        return None

    def _report(
        self,
        snapshot: Snapshot,
        evidence: Evidence,
        verdict: Verdict,
        data: dict[ChainStart, dict[int, Tensor]],
        row: dict[str, Any],
    ) -> None:
        lease.require_command(self.out, self.command)
        self.rows.append(json.loads(json.dumps(row)))  # as `read_rows` will return it
        _write(self.out, self.rows)
        for name, value in _scalars(evidence).items():
            self.writer.add_scalar(f"observe/{name}", value, evidence.update)
        self.writer.add_text("verdict", f"**{verdict.name}**: {verdict.why}", evidence.update)
        self._add_figure("curves", figures.convergence_figure(evidence), evidence.update)
        if snapshot.data.density is not None or snapshot.data.spec.kind == "image":
            self._add_figure("sheet", figures.chains_figure(snapshot, data), evidence.update)
        self.writer.flush()
        if not self.out.local:
            self.copied = (self.out / FOLDER).copy_from(Storage.at(str(self.folder)), self.copied)

    def _add_figure(self, name: str, figure: "Figure", update: int) -> None:
        figure.savefig(self.folder / f"{name}-{update:08d}.png", dpi=100)
        self.writer.add_figure(name, figure, update)


def _scalars(evidence: Evidence) -> dict[str, float]:
    """TensorBoard's curves: statistics of all chains, and of each start at the end."""
    scalars = {name: float(getattr(evidence, name)) for name in ("rhat", "rhat_all", "one_sided", "growth", "floor")}
    for start, one in evidence.trajectories.items():
        for name in ("energy_shift", "rhat", "ess", "gradient_to_noise"):
            scalars[f"{start}/{name}"] = getattr(one, name)
        scalars |= {f"{start}/energy": one.energy[evidence.reach], f"{start}/rms": one.rms[evidence.reach]}
        scalars |= {f"{start}/{evidence.metric}_{multiple}K": value for multiple, value in one.distance.items()}
    return scalars
