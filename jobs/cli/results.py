"""What commands that look at a run's model have in common: what they are asked, and the folder of what they find."""

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import matplotlib.figure
import numpy as np
import tyro
from torch import Tensor

from jobs.cli.launch import load_run, pick_device
from pipeline.data.dataset import Dataset, load_data
from pipeline.errors import InputError
from pipeline.evaluation.protocol import Measurement
from pipeline.process import configure_process
from pipeline.runs.image_grid import image_grid
from pipeline.runs.snapshot import Snapshot, newest_snapshot
from pipeline.runs.storage import Storage


@dataclass(frozen=True)
class SnapshotArgs:
    """What every command that looks at a run is asked."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    out: str = ""
    """New folder of the findings; empty: one in the run's, named after the command and the update."""
    seed: int = 0
    """Seed of everything random."""
    threads: int = 1
    """CPU threads of the process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""


def open_snapshot(look: SnapshotArgs, allow_latent: bool = False) -> Snapshot:
    """The model of a run, on the device and with the threads asked for.

    Args:
        look: what is asked.
        latent: whether chains whose states are latent vectors, not data, will do.

    Raises:
        BadInput: there is no run, no checkpoint, no energy of data where one is needed, or the data are others.
    """
    job = load_run(look.run)
    if look.threads < 1 or look.seed < 0:
        raise InputError("--threads must be 1 or more, --seed 0 or more")
    configure_process(look.threads)
    model = newest_snapshot(job, pick_device(look.device))
    if not allow_latent and job.recipe.energy(model.nets) is None:
        raise InputError(
            f"{look.run}: {type(job.recipe).__name__} has no energy of data, and its chains no data for states"
        )
    return model


def load_other_data(model: Snapshot, data: str) -> Dataset:
    """Data that the run did not learn from. Raises BadInput where they are not of its shape, or read otherwise."""
    found = load_data(data)
    if found.spec.shape != model.data.spec.shape:
        raise InputError(f"--data {data}: its items are of shape {found.spec.shape}, not {model.data.spec.shape}")
    if found.statistics:
        raise InputError(f"--data {data}: features and texts are read by what a run learns from; hold some back in it")
    return found


def random_items(data: Dataset, n: int, seed: int) -> Tensor:
    """(n, *d) items of the data, drawn without replacement (all of them, if there are no more)."""
    index = np.random.default_rng(seed).permutation(data.size)[:n]
    return data.batch(index)["x"]


class ResultFolder:
    """A new folder for what a command finds: a result.json that says what was asked, and figures."""

    def __init__(self, look: SnapshotArgs, model: Snapshot, command: str):
        """Make the folder. Raises BadInput where there is one, or none can be made."""
        self.model, self.out = model, look.out or f"{look.run.rstrip('/')}/{command}-{model.update}"
        self.storage = Storage.at(self.out)
        if self.storage.seen():
            raise InputError(f"--out {self.out} exists: it is never overwritten; choose another")
        try:
            self.storage.fs.create_dir(self.storage.path, recursive=True)
        except OSError as e:
            raise InputError(f"--out {self.out} cannot be written to: {str(e).splitlines()[0]}") from e

    def figure(self, name: str, figure: matplotlib.figure.Figure) -> None:
        """Write <name>.png."""
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=120)
        self.storage.write(f"{name}.png", image.getvalue())
        print(f"{'figure':24} {self.out}/{name}.png")

    def images(self, name: str, x: Tensor, columns: int) -> None:
        """Write <name>.png: images (n, c, h, w) in [-1, 1], `columns` a row."""
        self.figure(name, image_figure(x, columns))

    def result(self, asked: Any, metrics: dict[str, float], **more: Any) -> None:
        """Write result.json, and say the metrics."""
        about = {"update": self.model.update, "asked": dataclasses.asdict(asked)}
        self.storage.write_json("result.json", {**about, "metrics": metrics, **more})
        for name, value in metrics.items():
            print(f"{name:24} {value:.4g}")
        print(f"{'result':24} {self.out}/result.json")

    def measured(self, asked: Any, found: Sequence[Measurement], **more: Any) -> None:
        """As `result`, of numbers that say how they were taken: `metrics` with a hash each, `protocols` by hash."""
        about = {"update": self.model.update, "asked": dataclasses.asdict(asked)}
        metrics = {one.name: one.content() for one in found}
        protocols = {one.protocol.hash: one.protocol.content() for one in found}
        self.storage.write_json("result.json", {**about, "metrics": metrics, "protocols": protocols, **more})
        print(f"{'metric':32} {'value':>10} {'error':>10} {'ess':>8}  protocol")
        for one in found:
            columns = [f"{one.value:10.4g}"]
            columns += [
                " " * width if x is None else f"{x:{width}.3g}" for x, width in ((one.standard_error, 10), (one.ess, 8))
            ]
            print(f"{one.name:32} {' '.join(columns)}  {one.protocol.hash}{f'  {one.note}' if one.note else ''}")
        print(f"{'result':32} {self.out}/result.json")


def image_figure(x: Tensor, columns: int) -> matplotlib.figure.Figure:
    """Images (n, c, h, w) in [-1, 1], `columns` a row."""
    figure = matplotlib.figure.Figure(figsize=(columns, -(-len(x) // columns)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image_grid(x.cpu(), columns).permute(1, 2, 0))
    axes.axis("off")
    return figure
