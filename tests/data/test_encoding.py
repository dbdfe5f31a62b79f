"""Tables, texts and the few labels that learning knows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.data.dataset import load_data
from pipeline.data.encoding import END, MAX_WORDS, PADDING, UNKNOWN
from pipeline.errors import InputError

TEXTS = ["The cat sat.", "the dog, the cat", "A dog isn't a zebra!", "cat", ""]


@pytest.fixture
def texts(tmp_path):
    pq.write_table(pa.table({"text": TEXTS, "label": [0, 1, 0, 1, 0]}), tmp_path / "texts.parquet")
    return str(tmp_path / "texts.parquet")


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(5, 3, 50), rng.normal(-1, 0.1, 50), np.full(50, 7.0)], 1)
    pq.write_table(pa.table({"features": x.tolist(), "label": np.arange(50) % 3}), tmp_path / "table.parquet")
    return str(tmp_path / "table.parquet")


def test_sentences_are_words_that_end_and_are_padded(texts):
    data = load_data(texts)
    words, batch = data.statistics["words"], data.batch(np.arange(5))
    assert words[3:] == ["cat", "the", "a", "dog"]
    assert [words[i] for i in batch["x"][0]] == ["the", "cat", "<unknown>", "<unknown>", "<end>", "<pad>", "<pad>"]
    assert batch["x"][4].tolist() == [END] + [PADDING] * 6
    assert batch["length"].tolist() == [5, 6, 7, 2, 1]
    assert (batch["x"] == UNKNOWN).sum() == 6  # sat . , isn't zebra !
    frequency = torch.tensor(data.spec.frequency)
    seen = torch.bincount(batch["x"].flatten(), minlength=len(words)).float()
    seen[PADDING] = 0
    torch.testing.assert_close(frequency, seen / seen.sum())


def test_counts_are_of_the_words_of_the_vocabulary(texts):
    data = load_data(texts, text_as="counts", vocabulary=3)
    assert data.statistics["words"] == ["cat", "the", "a"]
    assert data.batch(np.arange(5))["x"].tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 2], [1, 0, 0], [0, 0, 0]]
    assert data.spec.shape == (3,)
    assert data.spec.frequency == pytest.approx([3 / 8, 3 / 8, 2 / 8])


def test_nothing_of_what_is_held_back_is_in_the_vocabulary(tmp_path):
    pq.write_table(pa.table({"text": [f"w{i} w{i} all" for i in range(40)]}), tmp_path / "a.parquet")
    data = load_data(str(tmp_path / "a.parquet"), test_share=0.25)
    learned = {f"w{row}" for row in data.rows}
    assert set(data.statistics["words"][3:]) == learned | {"all"}
    assert (data.test.batch(np.arange(10))["x"] == UNKNOWN).sum() == 20


def test_a_long_text_is_cut(tmp_path):
    pq.write_table(pa.table({"text": ["a " * 100, "b b"]}), tmp_path / "a.parquet")
    batch = load_data(str(tmp_path / "a.parquet")).batch(np.arange(2))
    assert batch["x"].shape == (2, MAX_WORDS + 1)
    assert (batch["x"][0, -1], batch["length"][0]) == (END, MAX_WORDS + 1)


def test_features_are_standardised_by_what_is_learned_from(table):
    data = load_data(table, test_share=0.4)
    x = data.batch(np.arange(data.size))["x"]
    torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    held = data.test.batch(np.arange(20))["x"]
    assert held[:, :2].mean(0).abs().min() > 1e-3
    raw = torch.from_numpy(data.table.column("x")[data.test_rows])
    mean, sd = (torch.tensor(data.statistics[name]) for name in ("mean", "sd"))
    torch.testing.assert_close(held * sd + mean, raw, atol=1e-5, rtol=1e-5)


def test_few_labels_are_drawn_by_the_seed_and_the_others_hidden(table):
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
    assert np.array_equal(again.labelled, data.labelled)
    assert not np.array_equal(other.labelled, data.labelled)
    assert len({data.key, other.key, load_data(table, test_share=0.2).key}) == 3


def test_labels_that_are_not_there_are_said_in_one_line(table, texts, tmp_path):
    with pytest.raises(InputError, match=r"--labels 20: a class of .*table.parquet has 16 items"):
        load_data(table, labels_per_class=20)
    with pytest.raises(InputError, match="eight-gaussians has no labels"):
        load_data("eight-gaussians", labels_per_class=1)
