"""Data sets of arrays: they come back as they are, here and in other processes."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.data.dataset import Dataset, load_data
from pipeline.errors import InputError
from pipeline.runs.job import load_dataset, override

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 9, 11, 3), np.uint8)
VECTORS = RNG.normal(3, 2, (1234, 2)).astype(np.float32)


def items(data):
    return data.batch(np.arange(data.size))


def pixels(images):
    """Images (n, h, w, c) as networks see them."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize(
    "x",
    [
        IMAGES,
        IMAGES.transpose(0, 3, 1, 2),
        torch.from_numpy(IMAGES),
        pixels(IMAGES),
        pixels(IMAGES).numpy().astype(np.float64),
        pixels(IMAGES).half(),
        pixels(IMAGES).requires_grad_(),
    ],
)
def test_images_of_any_layout_and_type_are_the_same_data_set(x):
    data = Dataset.from_arrays(x)
    assert torch.equal(items(data)["x"], pixels(IMAGES))
    assert data.fingerprint == Dataset.from_arrays(IMAGES).fingerprint


def test_grey_images_need_no_channel():
    grey = IMAGES[..., 0]
    data = Dataset.from_arrays(grey)
    assert torch.equal(items(data)["x"], pixels(grey[..., None]))
    assert data.fingerprint == Dataset.from_arrays(grey[..., None]).fingerprint
    assert data.fingerprint == Dataset.from_arrays(pixels(grey[..., None])[:, 0]).fingerprint


def test_vectors_stay_as_they_are():
    data = Dataset.from_arrays(VECTORS)
    assert torch.equal(items(data)["x"], torch.from_numpy(VECTORS))
    assert (data.spec.kind, data.spec.shape, data.spec.num_classes) == ("vector", (2,), 0)
    assert "label" not in items(data)


def test_vectors_are_standardized_on_the_training_split_where_asked():
    data = Dataset.from_arrays(VECTORS, test_share=0.3, standardize=True)
    x = items(data)["x"]
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert items(data.test)["x"].mean(0).abs().min() > 1e-4
    assert torch.equal(items(load_data(data.source, test_share=0.3))["x"], x)


@pytest.mark.parametrize("labels", [np.arange(12) % 3, torch.arange(12) % 3, [0, 1, 2] * 4, np.uint8([0, 1, 2] * 4)])
def test_labels_stay_with_their_items(labels):
    data = Dataset.from_arrays(IMAGES, labels, held_out_class=2, labels_per_class=1, seed=3)
    assert data.spec.num_classes == 3
    assert items(data)["label"].tolist() == [0, 1] * 4
    assert items(data.test)["label"].tolist() == [2] * 4
    assert sorted(items(data.stream("labelled"))["label"].tolist()) == [0, 1]


def test_the_fingerprint_is_of_the_content_and_of_what_is_selected():
    labels = np.arange(len(VECTORS)) % 2
    data_sets = [
        Dataset.from_arrays(VECTORS),
        Dataset.from_arrays(VECTORS[::-1]),
        Dataset.from_arrays(VECTORS, labels),
        Dataset.from_arrays(VECTORS, 1 - labels),
        Dataset.from_arrays(VECTORS, standardize=True),
        Dataset.from_arrays(VECTORS, test_share=0.1),
        Dataset.from_arrays(VECTORS, validation_share=0.1),
        Dataset.from_arrays(VECTORS, labels, labels_per_class=3),
        Dataset.from_arrays(VECTORS, labels, labels_per_class=3, seed=1),
    ]
    assert len({data.fingerprint for data in data_sets}) == len(data_sets)
    again = Dataset.from_arrays(torch.from_numpy(VECTORS.copy()), labels.tolist())
    assert (again.fingerprint, again.source) == (data_sets[2].fingerprint, data_sets[2].source)


def test_source_and_selection_load_the_same_data_again():
    labels = np.arange(len(VECTORS)) % 3
    data = Dataset.from_arrays(VECTORS, labels, test_share=0.2, validation_share=0.1, held_out_class=1)
    same = load_data(data.source, **data.selection)
    assert same.fingerprint == data.fingerprint
    for one, other in ((data, same), (data.test, same.test), (data.validation, same.validation)):
        assert one.size > 0
        assert all(torch.equal(value, items(one)[name]) for name, value in items(other).items())


def test_the_source_is_a_file_that_other_processes_read(small):
    data = Dataset.from_arrays(VECTORS, np.arange(len(VECTORS)) % 2)
    for same in (load_data(data.source), load_dataset(override(small, source=data.source))):
        assert (same.fingerprint, same.source, same.spec) == (data.fingerprint, data.source, data.spec)
        assert all(torch.equal(value, items(data)[name]) for name, value in items(same).items())
    code = f"from pipeline.data.dataset import load_data; print(load_data({data.source!r}).fingerprint)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == data.fingerprint


@pytest.mark.parametrize("source", ["digits", "eight-gaussians", "table", "arrays"])
def test_a_data_set_goes_through_pickle_without_its_items(source, table):
    if source == "arrays":
        data = Dataset.from_arrays(VECTORS, test_share=0.1)
    else:
        data = load_data({"table": table}.get(source, source), test_share=0.1)
    pickled = pickle.dumps(data.test)
    same = pickle.loads(pickled)
    assert len(pickled) < 10_000 + data.rows.nbytes * 2 + data.test_rows.nbytes * 2
    assert (same.fingerprint, same.spec, same.size) == (data.fingerprint, data.spec, data.test.size)
    assert all(torch.equal(value, items(data.test)[name]) for name, value in items(same).items())


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (np.zeros(3), "must be uint8 or float images, or float vectors"),
        (np.zeros((3, 8), np.uint8), "must be uint8 or float images, or float vectors"),
        (np.zeros((3, 8), np.int64), "must be uint8 or float images, or float vectors"),
        (np.zeros((3, 8, 8), np.int64), "must be uint8 or float images, or float vectors"),
        (np.zeros((3, 2, 8, 8, 3), np.uint8), "must be uint8 or float images, or float vectors"),
        (np.array(["a", "b"]), "must be uint8 or float images, or float vectors"),
        (np.zeros((0, 8)), "holds no items"),
        (np.zeros((3, 0)), "holds no items"),
        (np.zeros((3, 8, 8, 5), np.uint8), "1 or 3 channels"),
        (np.zeros((3, 3, 8, 3), np.uint8), "channels may be first or last"),
        (np.array([[1.0, np.nan]]), "must be finite"),
        (np.array([[1.0, 1e300]]), "must be finite"),
        (np.full((3, 8, 8), np.nan), "pixels must be k / 127.5 - 1"),
        (np.full((3, 8, 8), 1.5), "pixels must be k / 127.5 - 1"),
        (RNG.uniform(-1, 1, (3, 8, 8)), "pixels must be k / 127.5 - 1"),
        (np.arange(192).reshape(3, 8, 8) / 255, r"pixels in \[0, 1\] become 2 \* x - 1"),
    ],
)
def test_a_wrong_array_is_an_error_of_x(x, why, tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=why) as caught:
        Dataset.from_arrays(x)
    assert caught.value.field == "x"
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("labels", [[1, 2], np.arange(12) / 2, np.zeros((12, 1), int), [b"a"] * 12, [[1]] * 12])
def test_wrong_labels_are_an_error_of_labels(labels):
    with pytest.raises(InputError, match=r"labels must be (one per item|whole numbers, words or booleans)") as caught:
        Dataset.from_arrays(IMAGES, labels)
    assert caught.value.field == "labels"


def test_a_file_that_is_gone_or_of_another_kind_is_an_error_of_the_data(tmp_path):
    data = Dataset.from_arrays(RNG.normal(size=(5, 2)))
    Path(data.source).unlink()
    with pytest.raises(InputError, match=r"data=.*: neither a data set"):
        load_data(data.source)
    (tmp_path / "noise.arrow").write_bytes(b"ARROW1")
    (tmp_path / "folder.arrow").mkdir()
    table = pa.table({"x": [1, 2]})
    with pa.OSFile(str(tmp_path / "foreign.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    for name in ("noise", "folder", "foreign"):
        with pytest.raises(InputError, match=r"data=.*: it is no Arrow file that Dataset.from_arrays wrote"):
            load_data(str(tmp_path / f"{name}.arrow"))


def test_the_data_module_imports_no_library_that_only_some_sources_need():
    heavy = ("sklearn", "torchvision", "PIL", "pyarrow.dataset", "pandas", "scipy", "ray")
    code = f"import sys, pipeline.data.dataset; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
