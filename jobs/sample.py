"""Draw samples from a run, finished or not, by its newest checkpoint.

The chains are the run's own: its start, steps, drift and noise are part of the model.
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import tyro
from numpy import ndarray
from PIL import Image
from tqdm import tqdm

from jobs.launch import guarded, parse
from jobs.model import Look, Model, opened
from pipeline.chains import advance
from pipeline.errors import BadInput
from pipeline.evaluation import samples


@dataclass(frozen=True)
class Sample:
    """What is drawn, and where it goes."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    out: str
    """New file: .parquet (PNG images, features or text) or .npy (samples as they are: float32, not clipped to [-1, 1];
    int64 numbers of words)."""
    n: int = 1000
    """Number of samples to draw."""
    label: int | None = None
    """Class of the samples, for recipes that have a chain for each; None: the model's samples."""
    seed: int = 0
    """Seed of starts and noise."""
    threads: int = 1
    """CPU threads of the process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""


def main() -> None:
    """The command."""
    asked = parse(Sample, sys.argv[1:], "python -m jobs.sample", __doc__ or "")
    out = Path(asked.out).expanduser()
    if out.suffix not in (".parquet", ".npy"):
        raise BadInput(f"--out {out}: the name must end in .parquet or .npy")
    if out.exists() or not out.absolute().parent.is_dir():
        raise BadInput(f"--out {out} {'exists' if out.exists() else 'is in a folder that does not exist'}")
    if asked.n < 1:
        raise BadInput(f"--n {asked.n}: it must be 1 or more")
    model = opened(Look(asked.run, seed=asked.seed, threads=asked.threads, device=asked.device), latent=True)
    x = draw(asked, model)
    if out.suffix == ".npy":
        np.save(out, x)
    elif model.data.spec.kind == "text":
        pq.write_table(pa.table({"text": model.data.sentences(torch.from_numpy(x))}), out)
    else:
        pq.write_table(_table(x), out)
    print(f"{len(x)} samples in {out}")


def draw(asked: Sample, model: Model) -> ndarray:
    """(n, *shape) samples of the model: float32, or int64 numbers of words."""
    recipe, nets = model.job.recipe, model.nets
    if asked.label is None:
        tasks = samples.tasks(recipe, nets, model.data, asked.n, model.update, asked.seed)
    else:
        labels = np.full(asked.n, asked.label)
        tasks = samples.of_classes(recipe, nets, model.data, labels, model.update, asked.seed)
    moved = [advance(recipe, nets, task) for task in tqdm(tasks, desc=f"update {model.update}", unit="task")]
    states = torch.from_numpy(np.concatenate([answer.x for answer in moved]))
    return samples.decoded(recipe, nets, states, asked.seed).numpy()


def _table(x: ndarray) -> pa.Table:
    if x.ndim == 2:
        return pa.table({"features": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])})
    pixels = np.round((x.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    cells = [{"bytes": _png(image.squeeze()), "path": f"{i}.png"} for i, image in enumerate(pixels)]
    return pa.table({"image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})


def _png(image: ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


if __name__ == "__main__":
    guarded(main)
