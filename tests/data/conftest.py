"""A table of features that several tests read."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def table(tmp_path):
    """The path of 50 rows of three features, of which the last is constant, and of three labels."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(5, 3, 50), rng.normal(-1, 0.1, 50), np.full(50, 7.0)], 1)
    pq.write_table(pa.table({"features": x.tolist(), "label": np.arange(50) % 3}), tmp_path / "table.parquet")
    return str(tmp_path / "table.parquet")
