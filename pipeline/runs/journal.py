"""RunJournal: what rank 0 writes into the run folder while it trains: metrics.jsonl, TensorBoard, samples, figures.

Growing files are written locally. A run folder on object storage receives them at every checkpoint.
"""

import functools
import json
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from torch import Tensor

from pipeline.runs.image_grid import image_grid
from pipeline.runs.lease import Lease
from pipeline.runs.storage import PART_SUFFIX, Storage, Versions, write_errors

if TYPE_CHECKING:  # matplotlib is imported when a figure is drawn
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")

METRICS_FILE = "metrics.jsonl"
LARGEST_BIN = 1e20
"""TensorBoard's bins end here, and it fails where all values lie beyond; scalars show how large they are."""


def provenance() -> dict[str, str]:
    """What a run depends on beside its settings: versions, and the commit of the code where git knows it."""
    packages = {name: version(name) for name in ("torch", "ray", "numpy")}
    return {"python": platform.python_version(), **packages, "commit": _commit() or "unknown"}


def _commit() -> str:
    if not shutil.which("git"):
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()


def read_metrics(out: Storage) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl, in their order; [] if there are none."""
    lines = out.read(METRICS_FILE).splitlines() if out.exists(METRICS_FILE) else []
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def _writes(method: Callable[Concatenate["RunJournal", P], T]) -> Callable[Concatenate["RunJournal", P], T]:
    """Make a method raise RunWriteError where it cannot write into the run folder."""

    @functools.wraps(method)
    def guarded(self: "RunJournal", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with write_errors(self.out):
            return method(self, *args, **kwargs)

    return guarded


def _hide_tensorboard_errors(args: threading.ExceptHookArgs) -> None:
    """Print no traceback of TensorBoard's own thread when the disk is full; the next call to the journal raises."""
    if not (isinstance(args.exc_value, OSError) and "tensorboard" in type(args.thread).__module__):
        threading.__excepthook__(args)


class RunJournal:
    """Metrics, curves, samples and figures of a run. All methods raise RunWriteError."""

    def __init__(self, out: Storage, update: int, log_every: int, lease: Lease):
        """Open the journal of a run that continues at `update`; what was logged beyond it is removed.

        So is the line that ended the run before, if an uninterrupted run would not have it. Lines are removed in a new
        file, so that they stay whole if this process dies, and a process that still writes to the old file writes to no
        file.
        """
        self.out, self.lease = out, lease
        self.points: dict[str, list[tuple[int, float]]] = {}
        """Points of the curves that have been constant so far, and so are not in TensorBoard."""
        self.varying: set[str] = set()
        self.copied: Versions = {}
        self._open(update, log_every)

    @_writes
    def _open(self, update: int, log_every: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        out = self.out
        self.folder = Path(out.path) if out.local else Path(tempfile.mkdtemp(prefix="ebm-journal-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        if out.exists("result.json"):
            out.remove("result.json")
        if out.exists(METRICS_FILE):
            rows = read_metrics(out)
            end = update if (update - 1) % log_every == 0 else update - 1
            lines = [json.dumps(row) + "\n" for row in rows if row["update"] < end]
            (self.folder / f"{METRICS_FILE}{PART_SUFFIX}").write_text("".join(lines))
            (self.folder / f"{METRICS_FILE}{PART_SUFFIX}").replace(self.folder / METRICS_FILE)
            for row in rows:
                if row["update"] < end:
                    self._add_points(row, write=False)
        threading.excepthook = _hide_tensorboard_errors
        self.metrics = (self.folder / METRICS_FILE).open("a")
        self.board = SummaryWriter(str(self.folder), purge_step=update)

    @_writes
    def log(self, update: int, metrics: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl, and a point to every curve that is not constant. `update` counts from 0."""
        row = {"update": update, **metrics}
        self.metrics.write(json.dumps(row) + "\n")
        self.metrics.flush()
        self._add_points(row)

    def _add_points(self, row: Mapping[str, Any], write: bool = True) -> None:
        """A metric's first points wait until it changes for the first time; `write`: into TensorBoard."""
        for name in row.keys() - {"update"}:
            points = self.points.setdefault(name, [])
            points.append((row["update"], row[name]))
            if name in self.varying or points[0][1] != row[name]:
                self.varying.add(name)
                for update, value in points if write else []:
                    self.board.add_scalar(name, value, update)
                points.clear()

    @_writes
    def hparams(self, settings: Mapping[str, bool | str | float], metrics: Mapping[str, float]) -> None:
        """Show the run in TensorBoard's HParams tab: its settings, with what stayed constant, and its final metrics."""
        from torch.utils.tensorboard.summary import hparams  # slow to import

        constant = {name: points[0][1] for name, points in self.points.items() if points}
        for summary in hparams({**settings, **constant}, dict(metrics)):
            self.board.file_writer.add_summary(summary)  # type: ignore[attr-defined]  # typed as None

    @_writes
    def scalar(self, name: str, value: float, update: int) -> None:
        """Add a point to a curve."""
        self.board.add_scalar(name, value, update)

    @_writes
    def histogram(self, name: str, values: Tensor, update: int) -> None:
        """Add the distribution of a quantity over chains or items, unless all values are beyond TensorBoard's bins."""
        if values.abs().max() < LARGEST_BIN:
            self.board.add_histogram(name, values, update)

    @_writes
    def samples(self, name: str, x: Tensor, update: int) -> None:
        """Write a grid of at most 100 images (n, c, h, w) in [-1, 1] to TensorBoard and samples/<name>.png."""
        from torchvision.utils import save_image  # slow to import

        image = image_grid(x[:100])
        self.board.add_image("samples", image, update)
        (self.folder / "samples").mkdir(exist_ok=True)
        save_image(image, self.folder / "samples" / f"{name}.png")

    @_writes
    def text(self, name: str, sentences: list[str], update: int) -> None:
        """Write sentences to TensorBoard (at most 100) and samples/<name>.txt."""
        (self.folder / "samples").mkdir(exist_ok=True)
        (self.folder / "samples" / f"{name}.txt").write_text(
            "".join(f"{sentence}\n" for sentence in sentences), "utf-8"
        )
        self.board.add_text("samples", "".join(f"    {sentence}\n" for sentence in sentences[:100]), update)

    @_writes
    def figure(self, name: str, figure: "Figure", update: int) -> None:
        """Write a figure to TensorBoard and figures/<name>.png."""
        (self.folder / "figures").mkdir(exist_ok=True)
        figure.savefig(self.folder / "figures" / f"{name}.png", dpi=120)
        self.board.add_figure(name, figure, update)

    @_writes
    def sync(self) -> None:
        """Make everything logged so far durable in the run folder. Raises LeaseLost where that belongs to another."""
        self.board.flush()
        if not self.out.local:
            self.lease.check()
            self.copied = self.out.copy_from(Storage.at(str(self.folder)), self.copied)

    @_writes
    def close(self) -> None:
        """Close the journal."""
        try:
            self.sync()
        finally:
            self.metrics.close()
            if not self.out.local:
                shutil.rmtree(self.folder)
        self.board.close()
