"""Labels of every kind: classes are the distinct values in their order, and nothing is sized by a value."""

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.dataset import Dataset, load_data
from pipeline.data.labels import MAX_CLASSES, encode_labels, find_classes
from pipeline.errors import InputError

X = np.random.default_rng(0).normal(size=(6, 2))
BIG = 2**64 - 1


def from_parquet(folder, labels):
    pq.write_table(pa.table({"features": X.tolist(), "label": labels}), folder / "a.parquet")
    return load_data(str(folder / "a.parquet"))


def labels_of(data):
    return data.batch(np.arange(data.size))["label"].tolist()


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (pa.array([20230001, 20230000, 20230002] * 2), [20230000, 20230001, 20230002], [1, 0, 2] * 2),
        (pa.array([BIG, 0, BIG, 7, 7, 0], pa.uint64()), [0, 7, BIG], [2, 0, 2, 1, 1, 0]),
        (pa.array([-5, -3, -1, 4, 4, None], pa.int8()), [-5, -3, 4], [0, 1, -1, 2, 2, -1]),
        (pa.array(["dog", "cat", None, "", "eel", "cat"]), ["cat", "dog", "eel"], [1, 0, -1, -1, 2, 0]),
        (pa.array(["dog", "cat", None] * 2).dictionary_encode(), ["cat", "dog"], [1, 0, -1] * 2),
        (pa.array([True, False, None, True, True, False]), [False, True], [1, 0, -1, 1, 1, 0]),
        (pa.array([1.0, 3.0, float("nan"), None, -1.0, 3.0]), [1, 3], [0, 1, -1, -1, -1, 1]),
        (pa.array([np.float16(2)] * 6, pa.float16()), [2], [0] * 6),
        (pa.array([Decimal("2.00"), Decimal("-1.00"), None] * 2), [2], [0, -1, -1] * 2),
        (pa.array(["10", "9", "9", "10", "9", "9"]), ["10", "9"], [0, 1, 1, 0, 1, 1]),
    ],
)  # fmt: skip
def test_classes_are_the_distinct_values_in_their_order(tmp_path, labels, classes, numbers):
    data = from_parquet(tmp_path, labels)
    assert data.classes == classes
    assert [type(one) for one in data.classes] == [type(one) for one in classes]
    assert labels_of(data) == numbers
    assert data.spec.num_classes == len(classes)


@pytest.mark.parametrize("labels", [pa.array([None] * 6), pa.array([-1] * 6), pa.array([None] * 6, pa.string())])
def test_data_without_any_label_have_no_classes(tmp_path, labels):
    data = from_parquet(tmp_path, labels)
    assert (data.classes, data.spec.num_classes) == ([], 0)
    assert "label" not in data.batch(np.arange(6))


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (pa.array([0.5] * 6), "not 0.5"),
        (pa.array([float("inf")] * 6), "not inf"),
        (pa.array([[1]] * 6), ""),
        (pa.array([b"a"] * 6), "not b'a'"),
        (pa.array([0] * 6, pa.timestamp("s")), "not datetime"),
    ],
)
def test_what_names_no_class_is_refused(tmp_path, labels, what):
    with pytest.raises(
        InputError, match=f"column label: labels must be whole numbers, words or booleans.*{what}|{what}"
    ):
        from_parquet(tmp_path, labels)


def test_values_that_all_differ_are_no_classes():
    with pytest.raises(InputError, match="more than 30,000 distinct values"):
        find_classes([np.arange(MAX_CLASSES + 1)])
    assert len(find_classes([np.arange(MAX_CLASSES)])) == MAX_CLASSES


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([BIG, 1, BIG, 1, 1, 1], np.uint64), [1, BIG]),
        (np.array([True, False] * 3), [False, True]),
        (["b", "a", None] * 2, ["a", "b"]),
        ([5, None, -1] * 2, [5]),
        (np.array(["x", "y", "y"] * 2), ["x", "y"]),
    ],
)
def test_arrays_have_the_same_labels(labels, classes, tmp_path):
    data = Dataset.from_arrays(X, labels)
    assert data.classes == classes
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 4, 4), np.uint8), labels=np.where(np.arange(6) < 3, 3, 10**9))
    assert load_data(str(tmp_path / "a.npz")).classes == [3, 10**9]
    assert load_data(data.source).classes == classes


def test_labels_that_number_their_classes_change_no_fingerprint():
    same = Dataset.from_arrays(X, [0, 1, 2] * 2)
    others = [Dataset.from_arrays(X, labels) for labels in ([1, 2, 3] * 2, ["0", "1", "2"] * 2, [0, 1, None] * 2)]
    assert len({one.fingerprint for one in (same, *others)}) == 4
    assert Dataset.from_arrays(X, [False, True] * 3).fingerprint != Dataset.from_arrays(X, [0, 1] * 3).fingerprint


def test_learning_knows_the_labels_that_there_are(tmp_path):
    data = from_parquet(tmp_path, ["a", None, "b", "b", None, "a"])
    assert data.labelled_rows.tolist() == [0, 2, 3, 5]
    assert labels_of(data.stream("labelled")) == [0, 1, 1, 0]
    assert "label" not in data.stream("data").batch(np.arange(6))
    assert data.labelled.size == 4
    few = load_data(data.source, labels_per_class=1)
    assert sorted(labels_of(few.stream("labelled"))) == [0, 1]
    assert set(few.labelled_rows) <= set(data.labelled_rows)


def test_items_that_may_be_of_a_held_out_class_are_not_learned_from(tmp_path):
    path = from_parquet(tmp_path, ["a", None, "b", "b", None, "a"]).source
    data = load_data(path, held_out_class="b")
    assert (data.rows.tolist(), data.test_rows.tolist()) == ([0, 5], [2, 3])
    with pytest.raises(InputError, match="held_out_class=c: the classes are a, b"):
        load_data(path, held_out_class="c")


@pytest.mark.parametrize(("label", "labels"), [(20230001, [20230000, 20230001] * 3), ("True", [False, True] * 3)])
def test_a_held_out_class_is_named_as_the_data_name_it(label, labels):
    data = Dataset.from_arrays(X, labels, held_out_class=label)
    assert data.test_rows.tolist() == [1, 3, 5]
    assert load_data(data.source, **data.selection).fingerprint == data.fingerprint


def test_other_data_have_the_numbers_of_the_runs_classes():
    run, other = Dataset.from_arrays(X, ["a", "b", "d"] * 2), Dataset.from_arrays(X, ["d", "c", "b", None, "a", "d"])
    mapped = other.with_classes(run.classes)
    assert labels_of(mapped) == [2, -1, 1, -1, 0, 2]
    assert mapped.spec.num_classes == 3
    assert labels_of(run.with_classes(run.classes)) == labels_of(run)


def test_the_record_of_a_run_names_its_classes(tmp_path):
    data = from_parquet(tmp_path, [True, False, None] * 2)
    assert json.loads(json.dumps(data.record))["classes"] == [False, True]


def test_an_unknown_label_is_unlabelled():
    assert encode_labels(["x", "y", None], ["y"]).tolist() == [-1, 0, -1]
