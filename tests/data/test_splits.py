"""Which rows learning uses, and whose labels it knows."""

import numpy as np
import pytest

from pipeline.data.dataset import load_data
from pipeline.errors import InputError


def test_the_seed_picks_the_known_labels_and_hides_the_others(table):
    data = load_data(table, test_share=0.2, labels_per_class=2, seed=1)
    few, all_ = data.stream("labelled"), data.stream("data")
    assert np.bincount(few.batch(np.arange(few.size))["label"]).tolist() == [2, 2, 2]
    assert set(few.rows) <= set(data.rows)
    assert "label" not in all_.batch(np.arange(3))
    assert all_.size == data.size == 40
    assert "label" in data.test.batch(np.arange(3))
    assert "label" in load_data(table).stream("data").batch(np.arange(3))
    again, other = (
        load_data(table, test_share=0.2, labels_per_class=2, seed=1),
        load_data(table, test_share=0.2, labels_per_class=2, seed=2),
    )
    assert np.array_equal(again.labelled_rows, data.labelled_rows)
    assert not np.array_equal(other.labelled_rows, data.labelled_rows)
    assert len({data.fingerprint, other.fingerprint, load_data(table, test_share=0.2).fingerprint}) == 3


@pytest.mark.parametrize(
    ("source", "settings", "error"),
    [
        ("table", {"labels_per_class": 20}, "labels_per_class=20: a class of the data has 16 items"),
        ("eight-gaussians", {"labels_per_class": 1}, "labels_per_class=1: the data have no labels"),
        ("eight-gaussians", {"held_out_class": 1}, "held_out_class=1: the data have no labels"),
        ("table", {"held_out_class": 3}, "held_out_class=3: the classes are 0 to 2"),
        ("table", {"test_share": -0.1}, "test_share=-0.1: .*leave items to learn from"),
        ("table", {"test_share": 0.995}, "test_share=0.995: .*leave items to learn from"),
        ("table", {"validation_share": float("nan")}, "validation_share=nan .*leave items to learn from"),
    ],
)
def test_a_selection_without_rows_is_an_error_of_its_setting(table, source, settings, error):
    with pytest.raises(InputError, match=error):
        load_data(table if source == "table" else source, **settings)


def test_the_parts_are_disjoint_and_every_row_is_in_one(table):
    data = load_data(table, test_share=0.2, validation_share=0.1, held_out_class=2)
    parts = data.rows, data.test_rows, data.validation_rows
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(50))
    labels = data.table.column("label")
    assert not (labels[data.rows] == 2).any()
    assert (labels[data.test_rows] == 2).any()
    assert (labels[data.validation_rows] == 2).any()
