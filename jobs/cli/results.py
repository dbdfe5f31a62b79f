"""The folder of a command's results: a result.json with the arguments, and figures."""

import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from jobs.cli.open_run import SnapshotArgs
from pipeline.errors import InputError
from pipeline.runs.image_grid import image_grid
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.runs.uri import is_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.evaluation.protocol import Measurement


def check_new_file(path: str, field: str, suffix: str = "") -> Storage:
    """A file that a command will write. Raises InputError where it exists, has no folder, or ends otherwise."""
    file = Storage.at(path)
    if not file.name.endswith(suffix):
        raise InputError(f"its name must end in {suffix}", field, path)
    if file.check_exists():
        raise InputError("exists", field, path)
    if file.local and not file.parent.exists():
        raise InputError("is in a folder that does not exist", field, path)
    return file


class ResultFolder:
    """A new folder for the results of a command."""

    def __init__(self, args: SnapshotArgs, snapshot: Snapshot, command: str):
        """Create the folder, or take an empty one, as a command that stopped leaves it.

        Raises:
            InputError: it has files, or cannot be created.
        """
        name = f"{command}-{snapshot.update}"
        self.snapshot, self.storage = snapshot, Storage.at(args.out) if args.out else Storage.at(args.run) / name
        typed = (args.out or f"{args.run.rstrip('/')}/{name}").rstrip("/")
        self.shown = str(self.storage) if is_uri(typed) else typed
        if self.storage.check_exists() and self.storage.names():
            raise InputError("exists: results are never overwritten; choose another folder", "out", self.shown)
        if not self.storage.local:
            return
        try:
            self.storage.fs.create_dir(self.storage.path, recursive=True)
        except OSError as e:
            raise InputError(f"cannot be written to: {str(e).splitlines()[0]}", "out", self.shown) from e

    def show(self, name: str) -> str:
        """The place of a file, relative where the user typed a relative path."""
        return str(self.storage / name) if is_uri(self.shown) else f"{self.shown}/{name}"

    def figure(self, name: str, figure: "Figure") -> None:
        """Write <name>.png."""
        self.storage.write(f"{name}.png", png(figure))
        print(f"{'figure':24} {self.show(f'{name}.png')}")

    def images(self, name: str, x: Tensor, columns: int) -> None:
        """Write <name>.png: images (n, c, h, w) in [-1, 1], `columns` per row."""
        self.figure(name, image_figure(x, columns))

    def result(self, args: Any, metrics: dict[str, float], **more: Any) -> None:
        """Write result.json, and print the metrics."""
        self._write_result(args, metrics=metrics, **more)
        for name, value in metrics.items():
            print(f"{name:24} {value:.4g}")
        print(f"{'result':24} {self.show('result.json')}")

    def measurements(self, args: Any, measurements: Sequence["Measurement"], **more: Any) -> None:
        """As `result`, for measurements: `metrics` with a protocol hash each, `protocols` by hash."""
        from pipeline.evaluation.protocol import to_json  # here: most commands have no need of it

        self._write_result(args, **to_json(measurements), **more)
        print(f"{'metric':32} {'value':>10} {'error':>10} {'ess':>8}  protocol")
        for one in measurements:
            error = f"{one.standard_error:10.3g}" if one.standard_error is not None else " " * 10
            ess = f"{one.ess:8.3g}" if one.ess is not None else " " * 8
            note = f"  {one.note}" if one.note else ""
            print(f"{one.name:32} {one.value:10.4g} {error} {ess}  {one.protocol.hash}{note}")
        print(f"{'result':32} {self.show('result.json')}")

    def _write_result(self, args: Any, **content: Any) -> None:
        about = {"update": self.snapshot.update, "args": dataclasses.asdict(args)}
        self.storage.write_json("result.json", {**about, **content})


def png(figure: "Figure") -> bytes:
    """A figure as a PNG file."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def image_figure(x: Tensor, columns: int) -> "Figure":
    """Images (n, c, h, w) in [-1, 1], `columns` per row."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(columns, -(-len(x) // columns)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image_grid(x.cpu(), columns).permute(1, 2, 0))
    axes.axis("off")
    return figure
