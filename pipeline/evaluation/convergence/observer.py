"""Observer: who watches a run from its checkpoints and says whether it converges; it never touches the run.

What it writes is its own: `observe.jsonl`, one line a look, and the folder `observe` with a TensorBoard file and
pictures. Looks are a function of checkpoint and seed; at which checkpoints there is a look depends on the time it has.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from pyarrow import fs
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pipeline.batch import Spec
from pipeline.chains.local_pool import Pool
from pipeline.errors import InputError
from pipeline.evaluation.comparison import Comparison, default_comparison
from pipeline.evaluation.convergence.evidence import CHAINS_PER_START, REACH, Evidence, gather_evidence
from pipeline.evaluation.convergence.verdict import Verdict, decide
from pipeline.evaluation.metrics.grid import grid_points, kde_log_density
from pipeline.recipe import init_networks
from pipeline.rng import fold
from pipeline.runs import lease
from pipeline.runs.image_grid import image_grid
from pipeline.runs.job import Job
from pipeline.runs.snapshot import Snapshot, newest_snapshot
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import ChainStart

LINES = "observe.jsonl"
FOLDER = "observe"
PANEL_IMAGES = 25
"""Images of a sheet's panel."""


class CheckpointId(NamedTuple):
    """What tells one state of a run's checkpoints from another; a checkpoint of that name may be written again."""

    name: str
    manifest: bytes


def check_observable(job: Job[Any], spec: Spec) -> None:
    """Raise BadInput where there is nothing to observe: the model's chain has no steps."""
    recipe = job.recipe
    sampler = recipe.sampler(recipe.sample_chain, init_networks(recipe, spec, job.seed, torch.device("cpu")), 0)
    if not sampler.gradient_evaluations:
        raise InputError(
            f"--observe {job.resources.observers}: the model draws without a chain, so none can converge; use --observe 0"
        )


def read_rows(out: Storage) -> list[dict[str, Any]]:
    """All looks at a run so far, in their order."""
    return [json.loads(line) for line in out.read(LINES).splitlines()] if out.exists(LINES) else []


def truncate_rows(out: Storage, update: int) -> None:
    """Forget what was seen past `update`, from where a run goes on."""
    found = read_rows(out)
    if kept := [row for row in found if row["update"] <= update]:
        _write(out, kept)
    elif found:
        out.remove(LINES)


def _write(out: Storage, kept: list[dict[str, Any]]) -> None:
    out.write(LINES, "".join(json.dumps(row) + "\n" for row in kept).encode())


def verdict_line(row: dict[str, Any]) -> str:
    """The verdict of a look, in one line."""
    return f"{row['verdict']}, at update {row['update']}: {row['why']}"


class Observer:
    """Looks at a run's newest checkpoint again and again, on one device, with any pool."""

    def __init__(self, job: Job[Any], since: int, device: torch.device, pool: Pool, command: str):
        """An observer of a run that goes on from update `since`.

        Args:
            job: the run.
            since: updates that it had made when it was begun or resumed.
            device: of the networks here; the chains move where the pool moves them.
            pool: what moves the chains.
            command: what `owner.claim` said: once another command works on the run, nothing more is written.
        """
        self.job, self.device, self.pool, self.command = job, device, pool, command
        self.out = Storage.at(job.out)
        self.rows = read_rows(self.out)
        self.seen: CheckpointId | None = None
        self.distance: Comparison | None = None
        self.known = False
        local = self.out.local
        self.folder = Path(self.out.path) / FOLDER if local else Path(tempfile.mkdtemp(prefix="ebm-observe-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.board = SummaryWriter(str(self.folder), purge_step=since + 1)

    def news(self) -> bool:
        """Whether there is a checkpoint that was not looked at; it may not be whole yet."""
        return self._place() not in (None, self.seen)

    def look(self, stop: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """Look at the newest whole checkpoint, and write what was seen, if there is a new one.

        Args:
            stop: asked after every K steps of the chains; where it says so the look ends, with what it has.

        Returns:
            The line written; None where there was nothing new, or the look was cut short before it could tell.

        Raises:
            BadInput: there is no whole checkpoint.
            Unwritable: the run folder cannot be written to.
            TakenOver: another command works on the run.
        """
        began, cpu = time.perf_counter(), time.process_time()
        self.seen = self._place()  # first: a fault would repeat itself
        snapshot = newest_snapshot(self.job, self.device)
        if self.rows and (self.rows[-1]["attempt"], self.rows[-1]["update"]) == (snapshot.attempt, snapshot.update):
            return None
        if not self.known:
            self.distance, self.known = default_comparison(snapshot.data, self.device), True
        number = CHAINS_PER_START[snapshot.data.spec.kind]
        found = gather_evidence(snapshot, self.pool, self.distance, number, fold(self.job.seed, "observe"), stop)
        if found is None or (found[0].finite and found[0].reach < REACH and self.news()):
            return None
        evidence, shown = found
        verdict = decide(evidence)
        cost = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
        row = {**evidence._asdict(), "trails": {k: t._asdict() for k, t in evidence.trails.items()}}
        row |= {"verdict": verdict.name, "why": verdict.why, **cost}
        self._tell(snapshot, evidence, verdict, shown, row)
        return dict(self.rows[-1])

    def stopped(self, why: str) -> None:
        """Say that the run itself has found that it diverged, beside what was seen last."""
        last = self.rows[-1] if self.rows else {"update": 0, "attempt": 0}
        self.rows.append({**last, "verdict": "diverging", "why": why})
        _write(self.out, self.rows)

    def close(self) -> None:
        """Tell no more."""
        self.board.close()
        if not self.out.local:
            shutil.rmtree(self.folder)

    def _place(self) -> CheckpointId | None:
        checkpoints = self.out / "checkpoints"
        for name in reversed([name for name in checkpoints.names() if name.startswith("update-")]):
            try:
                return CheckpointId(name, checkpoints.read(f"{name}/manifest.json"))
            except OSError:  # not whole yet, or taken away
                continue
        return None

    def _tell(
        self,
        snapshot: Snapshot,
        evidence: Evidence,
        verdict: Verdict,
        shown: dict[ChainStart, dict[int, Tensor]],
        row: dict[str, Any],
    ) -> None:
        lease.require_command(self.out, self.command)
        self.rows.append(json.loads(json.dumps(row)))  # as it will be read
        _write(self.out, self.rows)
        for name, value in _scalars(evidence).items():
            self.board.add_scalar(f"observe/{name}", value, evidence.update)
        self.board.add_text("verdict", f"**{verdict.name}**: {verdict.why}", evidence.update)
        self._figure("curves", convergence_figure(evidence), evidence.update)
        if snapshot.data.density is not None or snapshot.data.spec.kind == "image":
            self._figure("sheet", chains_figure(snapshot, shown), evidence.update)
        self.board.flush()
        if not self.out.local:
            fs.copy_files(str(self.folder), (self.out / FOLDER).path, destination_filesystem=self.out.fs)

    def _figure(self, name: str, figure: Figure, update: int) -> None:
        figure.savefig(self.folder / f"{name}-{update:08d}.png", dpi=100)
        self.board.add_figure(name, figure, update)


def _scalars(evidence: Evidence) -> dict[str, float]:
    """What becomes a curve: of all chains, and of each start at its end."""
    names = ("rhat", "rhat_all", "one_sided", "growth", "floor")
    found = {name: float(getattr(evidence, name)) for name in names}
    for start, trail in evidence.trails.items():
        found |= {f"{start}/{name}": getattr(trail, name) for name in ("drift", "rhat", "ess", "gradient_to_noise")}
        found |= {f"{start}/energy": trail.energy[evidence.reach], f"{start}/rms": trail.rms[evidence.reach]}
        found |= {f"{start}/{evidence.metric}_{mark}K": value for mark, value in trail.distance.items()}
    return found


def convergence_figure(evidence: Evidence) -> Figure:
    """Mean energies along the long chains and, where there is one, their distance to the data."""
    figure = Figure(figsize=(10 if evidence.metric else 5, 3.6), layout="constrained")
    axes, *more = figure.subplots(1, 1 + bool(evidence.metric), squeeze=False).flat
    for start, trail in evidence.trails.items():
        axes.plot(
            [mark * evidence.steps for mark in trail.energy], list(trail.energy.values()), label=start, marker="."
        )
        for other in more:
            steps = [mark * evidence.steps for mark in trail.distance]
            other.plot(steps, list(trail.distance.values()), label=f"from {start}", marker=".")
    axes.set(xscale="log", xlabel="Langevin steps", title="mean energy / temperature")
    axes.legend()
    for other in more:
        other.axhline(evidence.floor, color="black", linewidth=0.6, linestyle="--", label="as many of the data")
        other.set_xscale("symlog", linthresh=evidence.steps)
        other.set(xlim=(0, None), yscale="log", xlabel="Langevin steps", title=f"{evidence.metric} to the data")
        other.legend()
    return figure


def chains_figure(snapshot: Snapshot, shown: dict[ChainStart, dict[int, Tensor]]) -> Figure:
    """The chains at each place they were seen at, a row each start: images, or their density in the plane."""
    truth, rows, columns = snapshot.data.density, len(shown), max(map(len, shown.values()))
    figure = Figure(figsize=(2.4 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for row, (start, states) in zip(panels, shown.items(), strict=True):
        for axes, (mark, x) in zip(row, states.items(), strict=True):
            axes.set_title(f"{start}, {mark * snapshot.sampler.steps:,} steps", fontsize=9)
            axes.axis("off")
            if truth is None:
                axes.imshow(image_grid(x[:PANEL_IMAGES], 5).permute(1, 2, 0))
            elif x.isfinite().all():
                density = kde_log_density(x, grid_points(truth.half_width)).exp()
                side, extent = round(len(density) ** 0.5), (-truth.half_width, truth.half_width) * 2
                axes.imshow(density.view(side, side).T, origin="lower", extent=extent, cmap="magma")
    return figure
