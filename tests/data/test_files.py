"""Which files of a folder are data, on disk and elsewhere."""

import os

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from pipeline.data.dataset import load_data
from pipeline.errors import InputError


def write(path, values, **columns):
    """A Parquet file of one feature."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"features": [[float(value)] for value in values], **columns}), path)


def values(path, **settings):
    return load_data(str(path), **settings).table.column("x")[:, 0].tolist()


def test_folders_may_be_labels(tmp_path):
    for name, some in (("label=dog", [1, 2]), ("label=cat", [3]), ("label=__HIVE_DEFAULT_PARTITION__", [4])):
        write(tmp_path / "hive" / name / "deep" / "a.parquet", some)
    data = load_data(str(tmp_path / "hive"))
    assert data.classes == ["cat", "dog"]
    by_value = dict(zip(data.table.column("x")[:, 0], data.table.column("label"), strict=True))
    assert by_value == {1: 1, 2: 1, 3: 0, 4: -1}


def test_folders_above_the_data_are_no_labels(tmp_path):
    write(tmp_path / "label=3" / "data" / "a.parquet", [1, 2])
    assert load_data(str(tmp_path / "label=3" / "data")).classes == []


def test_numbers_of_folders_are_in_their_order(tmp_path):
    for name in (10, 9):
        write(tmp_path / f"label={name}" / "a.parquet", [name])
    assert load_data(str(tmp_path)).classes == [9, 10]


def test_hidden_and_other_files_are_left_out(tmp_path):
    write(tmp_path / "a.parquet", [1])
    write(tmp_path / "b.PARQUET", [2])
    write(tmp_path / "c.pq", [3])
    for name in (
        ".hidden.parquet",
        "_part.parquet",
        ".git/x.parquet",
        "__MACOSX/._a.parquet",
        "_temporary/0/x.parquet",
    ):
        write(tmp_path / name, [9])
    for name in ("._a.parquet", "_SUCCESS", "_metadata", "README.md", "Thumbs.db", "a.parquet.crc"):
        (tmp_path / name).write_bytes(b"no data")
    data = load_data(str(tmp_path))
    assert (data.table.files, values(tmp_path)) == (3, [1, 2, 3])
    assert load_data(str(tmp_path / "b.PARQUET")).size == 1


def test_a_name_like_a_hidden_one_is_read_where_it_is_named(tmp_path):
    write(tmp_path / "_data" / "_a.parquet", [1])
    assert values(tmp_path / "_data" / "_a.parquet") == [1]
    write(tmp_path / "_data" / "b.parquet", [2])
    assert values(tmp_path / "_data") == [2]


def test_empty_shards_hold_nothing(tmp_path):
    write(tmp_path / "a.parquet", [1, 2], label=[0, 1])
    pq.write_table(
        pa.table({"features": pa.array([], pa.null()), "label": pa.array([], pa.null())}), tmp_path / "b.parquet"
    )
    write(tmp_path / "c.parquet", [])
    assert values(tmp_path) == [1, 2]
    (tmp_path / "d.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"d.parquet cannot be read as Parquet"):
        load_data(str(tmp_path))


def test_a_folder_without_rows_or_files_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no .parquet files, pictures or .csv files"):
        load_data(str(tmp_path))
    write(tmp_path / "a.parquet", [])
    with pytest.raises(InputError, match="holds no items"):
        load_data(str(tmp_path))


def test_shards_of_different_schemas(tmp_path):
    write(tmp_path / "a.parquet", [1, 2])
    write(tmp_path / "b.parquet", [3], label=pa.array([7], pa.int8()), more=["x"])
    write(tmp_path / "c.parquet", [4], label=pa.array([9], pa.int64()), more=[1])
    data = load_data(str(tmp_path))
    assert (data.classes, data.table.column("label").tolist()) == ([7, 9], [-1, -1, 0, 1])
    assert "1 file of 3 have no column label: their items are unlabelled" in data.table.notes
    write(tmp_path / "d.parquet", [5], label=["x"])
    with pytest.raises(InputError, match=r"column label is int8 in b.parquet, int64 in c.parquet, string in d.parquet"):
        load_data(str(tmp_path))
    pq.write_table(pa.table({"label": [3]}), tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"d.parquet has no column features, other files have one"):
        load_data(str(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet", "validation-00000-of-00001.parquet"),
        ("train/0.parquet", "test/0.parquet", "val/0.parquet"),
        ("data/mnist_train.parquet", "data/mnist_test.parquet", "data/mnist_dev.parquet"),
        ("split=train/0.parquet", "split=test/0.parquet", "split=validation/0.parquet"),
        ("latest.parquet", "Test.parquet", "VALID.parquet"),
    ],
)
def test_splits_are_not_merged_unless_asked(tmp_path, names):
    for i, name in enumerate(names):
        write(tmp_path / name, [i])
    assert values(tmp_path) == [0]
    assert "read: train; not read: " in load_data(str(tmp_path)).table.notes[0]
    assert [values(tmp_path, split=split) for split in ("test", "validation")] == [[1], [2]]
    assert sorted(values(tmp_path, split="all")) == [0, 1, 2]
    assert values(tmp_path / names[1]) == [1]
    (tmp_path / names[0]).unlink()
    with pytest.raises(InputError, match="split=train: its files are of test or validation"):
        load_data(str(tmp_path))


def test_a_split_that_no_name_says_is_refused(tmp_path):
    write(tmp_path / "a.parquet", [1])
    assert values(tmp_path, split="all") == values(tmp_path) == [1]
    with pytest.raises(InputError, match="split=test: the names of its files say no split"):
        load_data(str(tmp_path), split="test")


@pytest.mark.parametrize(
    ("folders", "classes"),
    [("train/cat train/dog test/cat", ["cat", "dog"]), ("car train test", ["car", "test", "train"])],
)
def test_folders_of_pictures_are_splits_where_all_are(tmp_path, folders, classes):
    for name in folders.split():
        (tmp_path / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / name / "a.png")
    assert load_data(str(tmp_path)).classes == classes


def test_links_are_followed_once(tmp_path):
    data = tmp_path / "data"
    write(tmp_path / "blobs" / "123abc", [1])
    write(tmp_path / "more" / "b.parquet", [2])
    data.mkdir()
    (data / "a.parquet").symlink_to(tmp_path / "blobs" / "123abc")
    (data / "more").symlink_to(tmp_path / "more")
    (data / "loop").symlink_to(data)
    (tmp_path / "more" / "up").symlink_to(data)
    assert values(data) == [1, 2]
    assert load_data(str(data / "a.parquet")).source == str(data / "a.parquet")
    (tmp_path / "link").symlink_to(data)
    assert values(tmp_path / "link") == [1, 2]


@pytest.mark.parametrize("target", ["gone.parquet", "a.parquet"])
def test_a_link_to_nothing_or_to_itself_is_one_line(tmp_path, target):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.parquet").symlink_to(folder / target)
    for path in (folder, folder / "a.parquet"):
        with pytest.raises(InputError, match=r"is a link to nothing") as caught:
            load_data(str(path))
        assert "\n" not in str(caught.value)


def test_names_that_no_system_has_are_no_files(tmp_path):
    for name in ("x" * 300, "a\0b", "", str(tmp_path / "a.parquet" / "b")):
        with pytest.raises(InputError, match="neither a data set"):
            load_data(name)


def test_files_of_other_kinds_are_said_to_be_left_out(tmp_path):
    write(tmp_path / "a.parquet", [1])
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert load_data(str(tmp_path)).table.notes == ["not read: 1 file (a.png)", "not read: 1 file (a.csv)"]


class Hub(MemoryFileSystem):
    """A stand-in for the Hugging Face hub."""

    protocol = ("hf",)
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("hf://"))


@pytest.fixture
def hub(tmp_path):
    """The hub, with a data set of two splits, of pictures, and of paths."""
    fsspec.register_implementation("hf", Hub, clobber=True)
    (tmp_path / "pictures" / "img").mkdir(parents=True)
    for i in range(2):
        write(tmp_path / "tables" / "data" / f"train-0000{i}-of-00002.parquet", [i, i + 10], label=["a", "b"])
        Image.new("L", (5, 4), 50 * i).save(tmp_path / "pictures" / "img" / f"{i}.png")
    write(tmp_path / "tables" / "data" / "test-00000-of-00001.parquet", [5], label=["a"])
    pq.write_table(pa.table({"image": ["img/0.png", "img/1.png"]}), tmp_path / "pictures" / "all.parquet")
    np.savez(tmp_path / "pictures" / "a.npz", images=np.zeros((3, 4, 4), np.uint8))
    store = fsspec.filesystem("hf", skip_instance_cache=True)
    for path in tmp_path.rglob("*.*"):
        store.pipe(f"/datasets/someone/{path.relative_to(tmp_path)}", path.read_bytes())
    yield store
    Hub.store.clear()


def test_a_data_set_of_the_hub_is_read(hub):
    data = load_data("hf://datasets/someone/tables")
    assert data.table.column("x")[:, 0].tolist() == [0, 10, 1, 11]
    assert (data.classes, data.source) == (["a", "b"], "hf://datasets/someone/tables")
    assert values("hf://datasets/someone/tables", split="test") == [5]
    assert load_data("hf://datasets/someone/tables/data/test-00000-of-00001.parquet").size == 1
    pictures = load_data("hf://datasets/someone/pictures/all.parquet").table.column("x")
    assert pictures[:, 0, 0, 0].tolist() == [0, 50]
    assert load_data("hf://datasets/someone/pictures/img").size == 2
    assert load_data("hf://datasets/someone/pictures/a.npz").size == 3


def test_a_changed_file_of_the_hub_is_read_again(hub, tmp_path):
    before = load_data("hf://datasets/someone/tables", split="test").fingerprint
    write(tmp_path / "new.parquet", [6], label=["a"])
    hub.pipe("/datasets/someone/tables/data/test-00000-of-00001.parquet", (tmp_path / "new.parquet").read_bytes())
    assert load_data("hf://datasets/someone/tables", split="test").fingerprint != before


@pytest.mark.parametrize("uri", ["hf://datasets/someone/nothing", "zz9://a/b", "file:///nothing/here"])
def test_a_uri_of_nothing_is_one_line(hub, uri):
    with pytest.raises(InputError, match=r"data=.*:") as caught:
        load_data(uri)
    assert "\n" not in str(caught.value)


def test_a_file_uri_is_a_path(tmp_path):
    write(tmp_path / "a.parquet", [1, 2])
    assert values(f"file://{tmp_path}/a.parquet") == [1, 2]
    assert values(f"file://{tmp_path}") == [1, 2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_one_line(tmp_path):
    (tmp_path / "secret").mkdir(mode=0)
    with pytest.raises(InputError, match="cannot be listed"):
        load_data(str(tmp_path))
