"""Peak resident memory, and time, of reading pictures into the cache, by their number.

Grey PNG pictures of 28x28 in one row group of a Parquet file, and as files in folders; each number in a process of its
own, over what reading 1,000 of them takes, but 1 MB at least.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.memory import peak
from benchmarks.timing import Row, smaller

SIDE, FIRST = 28, 1000
PARQUET, FOLDER = (10_000, 100_000, 1_000_000), (10_000, 100_000)


def run(first: str, data: str) -> dict[str, float]:
    """In a process of its own."""
    from pipeline.data.dataset import load_data

    load_data(first)
    before, began = peak(os.getpid()), time.perf_counter()
    size = load_data(data).size
    return {"items": size, "growth": peak(os.getpid()) - before, "seconds": time.perf_counter() - began}


def pictures(n: int) -> list[bytes]:
    from PIL import Image

    rng, encoded = np.random.default_rng(0), []
    for _ in range(min(n, 100)):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8)).save(out, "PNG")
        encoded.append(out.getvalue())
    return [encoded[i % 100] + i.to_bytes(8, "big") for i in range(n)]  # all differ; decoders ignore what follows


def write(folder: Path, kind: str, n: int) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{kind}-{n}"
    if kind == "folder":
        for i, one in enumerate(pictures(n)):
            place = path / str(i % 10)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i}.png").write_bytes(one)
        return str(path)
    pq.write_table(pa.table({"image": pictures(n), "label": np.arange(n) % 10}), f"{path}.parquet")
    return f"{path}.parquet"


def measured(folder: Path, kind: str, n: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.data", write(folder, kind, FIRST), write(folder, kind, n)]
    environment = {**os.environ, "EBM_CACHE": str(folder / f"cache-{kind}-{n}")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1], env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def rows() -> list[Row]:
    found = []
    for kind, numbers in (("Parquet", PARQUET), ("folder", FOLDER)):
        for n in numbers:
            with tempfile.TemporaryDirectory() as folder:
                got = measured(Path(folder), kind.lower(), n)
            name = f"{kind} of {n:,} pictures: their pixels"
            found.append(smaller(name, "MB", max(got["growth"], 1.0), n * SIDE * SIDE / 1e6))
            print(f"{name}: {got}", file=sys.stderr)
    return found


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], sys.argv[2])))
