"""Images without labels: nothing to compare by, but a run still ends well, with its pictures."""

from pathlib import Path

import numpy as np
from running import run

from pipeline.data.dataset import Dataset
from pipeline.runs.job import override


def test_a_run_on_unlabelled_images_ends_with_pictures_and_without_distances(small):
    data = Dataset.from_arrays(np.random.default_rng(0).integers(256, size=(40, 8, 8), dtype=np.uint8))
    result = run(override(small, source=data.source, eval_samples=10, updates=2))
    assert result["metrics"] == {}
    assert (Path(small.out) / "samples" / "final.png").stat().st_size > 500
