"""The run folder as its readers see it: job.json, metrics.jsonl, TensorBoard, samples, result.json.

Files that grow are written locally. A run folder that lies on object storage gets them at every checkpoint.
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
from typing import Concatenate, ParamSpec, TypeVar

import matplotlib.figure
from jaxtyping import Float
from pyarrow import fs
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pipeline.runs.image_grid import image_grid
from pipeline.runs.lease import Lease
from pipeline.runs.storage import PART_SUFFIX, Storage, write_errors

P = ParamSpec("P")
T = TypeVar("T")

METRICS_FILE = "metrics.jsonl"
BINS = 1e20
"""Where TensorBoard's bins end: it fails where all values lie beyond; the scalars say how large they are."""


def provenance() -> dict[str, str]:
    """What a run depends on beside its settings: versions, and the commit of the code where git knows it."""
    packages = {name: version(name) for name in ("torch", "ray", "numpy")}
    return {"python": platform.python_version(), **packages, "commit": _commit() or "unknown"}


def _commit() -> str:
    if not shutil.which("git"):
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()


def _guarded(method: Callable[Concatenate["RunJournal", P], T]) -> Callable[Concatenate["RunJournal", P], T]:
    """A method that writes into the run folder: it raises Unwritable where that is not to be done."""

    @functools.wraps(method)
    def guarded(self: "RunJournal", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with write_errors(self.out.path):
            return method(self, *args, **kwargs)

    return guarded


def _quiet(args: threading.ExceptHookArgs) -> None:
    """No traceback of TensorBoard's own thread where the disk is full: what is told next raises the fault."""
    if not (isinstance(args.exc_value, OSError) and "tensorboard" in type(args.thread).__module__):
        threading.__excepthook__(args)


class RunJournal:
    """What rank 0 tells about a run while it runs. All methods raise Unwritable."""

    def __init__(self, out: Storage, update: int, log_every: int, lease: Lease):
        """Open a run folder, new or resumed at `update`: what was logged past it is cut off.

        So is the line that ended the run before, if the whole run would not have it. Lines are cut off in a new file,
        so that they stay whole if this process dies, and whoever still writes to the old one writes to no file.
        """
        self.out, self.lease = out, lease
        self._open(update, log_every)

    @_guarded
    def _open(self, update: int, log_every: int) -> None:
        out = self.out
        self.folder = Path(out.path) if out.local else Path(tempfile.mkdtemp(prefix="ebm-report-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        if out.exists("result.json"):
            out.remove("result.json")
        if out.exists(METRICS_FILE):
            rows = [json.loads(line) for line in out.read(METRICS_FILE).splitlines() if line.endswith(b"}")]
            whole = update if (update - 1) % log_every == 0 else update - 1
            kept = [json.dumps(row) + "\n" for row in rows if row["update"] < whole]
            (self.folder / f"{METRICS_FILE}{PART_SUFFIX}").write_text("".join(kept))
            (self.folder / f"{METRICS_FILE}{PART_SUFFIX}").replace(self.folder / METRICS_FILE)
        threading.excepthook = _quiet
        self.metrics = (self.folder / METRICS_FILE).open("a")
        self.board = SummaryWriter(str(self.folder), purge_step=update)

    @_guarded
    def log(self, update: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, one point of every curve. `update` counts from 0."""
        self.metrics.write(json.dumps({"update": update, **metrics}) + "\n")
        self.metrics.flush()
        for name, value in metrics.items():
            self.board.add_scalar(name, value, update)

    @_guarded
    def scalar(self, name: str, value: float, update: int) -> None:
        """One point of a curve."""
        self.board.add_scalar(name, value, update)

    @_guarded
    def histogram(self, name: str, values: Tensor, update: int) -> None:
        """The distribution of a quantity over chains or items, as far as TensorBoard's bins (up to 1e20) reach."""
        if values.abs().max() < BINS:
            self.board.add_histogram(name, values, update)

    @_guarded
    def samples(self, name: str, x: Float[Tensor, "n c h w"], update: int) -> None:
        """A grid of at most 100 images in [-1, 1], in TensorBoard and as samples/<name>.png."""
        from torchvision.utils import save_image  # here, since it takes a second that --help need not wait for

        image = image_grid(x[:100])
        self.board.add_image("samples", image, update)
        (self.folder / "samples").mkdir(exist_ok=True)
        save_image(image, self.folder / "samples" / f"{name}.png")

    @_guarded
    def text(self, name: str, sentences: list[str], update: int) -> None:
        """Sentences, in TensorBoard (at most 100) and as samples/<name>.txt."""
        (self.folder / "samples").mkdir(exist_ok=True)
        (self.folder / "samples" / f"{name}.txt").write_text("".join(f"{sentence}\n" for sentence in sentences))
        self.board.add_text("samples", "".join(f"    {sentence}\n" for sentence in sentences[:100]), update)

    @_guarded
    def figure(self, name: str, figure: matplotlib.figure.Figure, update: int) -> None:
        """A figure, in TensorBoard and as figures/<name>.png."""
        (self.folder / "figures").mkdir(exist_ok=True)
        figure.savefig(self.folder / "figures" / f"{name}.png", dpi=120)
        self.board.add_figure(name, figure, update)

    @_guarded
    def sync(self) -> None:
        """Make what was told so far durable where the run folder lies. Raises TakenOver where that is another's."""
        self.board.flush()
        if not self.out.local:
            self.lease.check()
            fs.copy_files(str(self.folder), self.out.path, destination_filesystem=self.out.fs)

    @_guarded
    def close(self) -> None:
        """Tell no more."""
        try:
            self.sync()
        finally:
            self.metrics.close()
            if not self.out.local:
                shutil.rmtree(self.folder)
        self.board.close()
