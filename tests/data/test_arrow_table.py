"""The cached table: it is read without a copy, and written in little memory, by several processes at once."""

import hashlib
import io
import pickle
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.arrow_table import ROWS_PER_PIECE, Content, Table, cached_table, store_table
from pipeline.data.dataset import load_data
from pipeline.errors import InputError

RNG = np.random.default_rng(0)


def content():
    """Three rows of all kinds of columns, in two pieces."""
    ragged = [np.arange(n, dtype=np.int32) for n in (3, 0, 5)]
    columns = {"x": RNG.normal(size=(3, 2, 4)).astype(np.float32), "label": np.array([2, 0, 1]), "tokens": ragged}
    return columns, Content(
        [{name: column[rows] for name, column in columns.items()} for rows in (np.s_[:2], np.s_[2:])]
    )


def test_every_column_comes_back_memory_mapped(tmp_path):
    columns, pieces = content()
    table = cached_table(tmp_path / "t.arrow", lambda: pieces)
    assert len(table) == 3
    assert np.array_equal(table.column("x"), columns["x"])
    assert np.array_equal(table.column("label"), columns["label"])
    assert [list(r) for r in table.ragged("tokens", np.array([2, 1]))] == [[0, 1, 2, 3, 4], []]
    assert not table.column("x").flags.owndata
    with pytest.raises(TypeError, match="tokens is ragged"):
        table.column("tokens")


def test_columns_are_views_of_the_file(tmp_path):
    _, pieces = content()
    table = cached_table(tmp_path / "t.arrow", lambda: pieces)
    start = table.column("x").__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        ranges = [line.split("-", 1) for line in maps if line.rstrip().endswith("t.arrow")]
    assert any(int(low, 16) <= start < int(rest.split()[0], 16) for low, rest in ranges)


def test_the_hash_is_of_the_columns_and_not_of_their_pieces(tmp_path):
    columns, pieces = content()
    whole = cached_table(tmp_path / "whole.arrow", lambda: Content([columns]))
    parts = cached_table(tmp_path / "parts.arrow", lambda: pieces)
    digest = hashlib.sha256(f"x float32 {(3, 2, 4)}".encode() + columns["x"].tobytes())
    digest.update(f"label int64 {(3,)}".encode() + columns["label"].tobytes())
    for part in columns["tokens"]:
        digest.update(f"tokens int32 {part.shape}".encode() + part.tobytes())
    assert whole.content_hash == parts.content_hash == digest.hexdigest()[:16]
    assert store_table(tmp_path, Content([columns])).name == f"{whole.content_hash}.arrow"


def test_a_pickled_table_is_its_path(tmp_path):
    x = np.zeros((1000, 100))
    data = pickle.dumps(cached_table(tmp_path / "t.arrow", lambda: Content([{"x": x}])))
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data).column("x"), x)


def test_several_processes_may_write_the_same_table_at_once(tmp_path):
    barrier, tables = threading.Barrier(4), []

    def read():
        barrier.wait()
        return Content([{"x": np.arange(10)}])

    def one():
        tables.append(cached_table(tmp_path / "t.arrow", read))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 4
    assert all(np.array_equal(table.column("x"), np.arange(10)) for table in tables)
    assert [p.name for p in tmp_path.iterdir()] == ["t.arrow"]


def test_a_source_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached_table(tmp_path / "t.arrow", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cached_table(tmp_path / "t.arrow", lambda: Content({"x": np.zeros(3 // n)} for n in (1, 0)))
    with pytest.raises(InputError, match="holds no items"):
        cached_table(tmp_path / "t.arrow", lambda: Content([]))
    assert not list(tmp_path.iterdir())


MEASURE = """
import sys
from pipeline.data.dataset import load_data

def peak():
    lines = open("/proc/self/status").read().splitlines()  # getrusage's peak is inherited from the parent
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024

load_data(sys.argv[1])
before = peak()
print(load_data(sys.argv[2]).size, peak() - before)
"""


@pytest.mark.slow
def test_memory_holds_a_piece_of_the_images_while_they_are_cached(tmp_path):
    side, pieces = 64, 7
    out = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(out, "PNG")
    for name, n in (("few", ROWS_PER_PIECE), ("many", pieces * ROWS_PER_PIECE)):
        pq.write_table(pa.table({"image": [{"bytes": out.getvalue(), "path": ""}] * n}), tmp_path / f"{name}.parquet")
    files = [str(tmp_path / f"{name}.parquet") for name in ("few", "many")]
    measured = subprocess.run([sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, check=True)
    size, growth = map(int, measured.stdout.split())
    piece = side * side * 3 * ROWS_PER_PIECE / 2**20
    assert size == pieces * ROWS_PER_PIECE
    assert growth < 3 * piece, f"{growth} MiB more for {(pieces - 1) * piece:.0f} MiB of further images"


@pytest.mark.parametrize("size", [0, 7, 500])
def test_a_damaged_table_is_written_again(tmp_path, size):
    path = tmp_path / "t.arrow"
    whole = cached_table(path, lambda: content()[1]).content_hash
    part = path.read_bytes()[:size]
    path.unlink()
    path.write_bytes(part)
    columns, pieces = content()
    table = cached_table(path, lambda: pieces)
    assert np.array_equal(table.column("x"), columns["x"])
    assert len(table.content_hash) == len(whole)


def test_arrays_that_cannot_be_written_to_the_cache_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the cache .*file/cache \(EBM_CACHE\) cannot be written to: .*directory"):
        store_table(tmp_path / "file" / "cache", content()[1])


def test_data_are_read_without_a_cache_where_it_cannot_be_written_to(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EBM_CACHE", str(tmp_path / "file" / "cache"))
    digits = load_data("digits")
    assert "cannot be written to (Not a directory): " in capsys.readouterr().err
    monkeypatch.setenv("EBM_CACHE", str(tmp_path / "cache"))
    assert load_data("digits").fingerprint == digits.fingerprint


def test_tables_of_before_have_all_numbers_as_classes(tmp_path):
    path = store_table(tmp_path, Content([{"x": np.zeros((3, 2)), "label": np.array([0, 3, 1])}]))
    assert Table(path).classes == [0, 1, 2, 3]
