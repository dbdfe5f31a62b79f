"""What networks see of texts and features."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.data.dataset import load_data
from pipeline.data.encoding import END, MAX_WORDS, PADDING, UNKNOWN

TEXTS = ["The cat sat.", "the dog, the cat", "A dog isn't a zebra!", "cat", ""]


@pytest.fixture
def texts(tmp_path):
    pq.write_table(pa.table({"text": TEXTS, "label": [0, 1, 0, 1, 0]}), tmp_path / "texts.parquet")
    return str(tmp_path / "texts.parquet")


def test_a_sentence_is_words_an_end_and_padding(texts):
    data = load_data(texts)
    words, batch = data.statistics["words"], data.batch(np.arange(5))
    assert words[3:] == ["cat", "the", "a", "dog"]
    assert [words[i] for i in batch["x"][0]] == ["the", "cat", "<unknown>", "<unknown>", "<end>", "<pad>", "<pad>"]
    assert batch["x"][4].tolist() == [END] + [PADDING] * 6
    assert batch["length"].tolist() == [5, 6, 7, 2, 1]
    assert (batch["x"] == UNKNOWN).sum() == 6  # sat . , isn't zebra !
    frequency = torch.tensor(data.spec.frequency)
    counts = torch.bincount(batch["x"].flatten(), minlength=len(words)).float()
    counts[PADDING] = 0
    torch.testing.assert_close(frequency, counts / counts.sum())
    assert data.to_sentences(batch["x"])[3:] == ["cat", ""]


def test_counts_are_of_words_of_the_vocabulary(texts):
    data = load_data(texts, text_as="counts", vocabulary=3)
    assert data.statistics["words"] == ["cat", "the", "a"]
    assert data.batch(np.arange(5))["x"].tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 2], [1, 0, 0], [0, 0, 0]]
    assert data.spec.shape == (3,)
    assert data.spec.frequency == pytest.approx([3 / 8, 3 / 8, 2 / 8])


def test_the_vocabulary_is_of_the_training_split(tmp_path):
    pq.write_table(pa.table({"text": [f"w{i} w{i} all" for i in range(40)]}), tmp_path / "a.parquet")
    data = load_data(str(tmp_path / "a.parquet"), test_share=0.25)
    training = {f"w{row}" for row in data.rows}
    assert set(data.statistics["words"][3:]) == training | {"all"}
    assert (data.test.batch(np.arange(10))["x"] == UNKNOWN).sum() == 20


def test_long_sentences_are_cut(tmp_path):
    pq.write_table(pa.table({"text": ["a " * 100, "b b"]}), tmp_path / "a.parquet")
    batch = load_data(str(tmp_path / "a.parquet")).batch(np.arange(2))
    assert batch["x"].shape == (2, MAX_WORDS + 1)
    assert (batch["x"][0, -1], batch["length"][0]) == (END, MAX_WORDS + 1)


def test_features_are_standardized_on_the_training_split(table):
    data = load_data(table, test_share=0.4)
    x = data.batch(np.arange(data.size))["x"]
    torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    test = data.test.batch(np.arange(20))["x"]
    assert test[:, :2].mean(0).abs().min() > 1e-3
    raw = torch.from_numpy(data.table.column("x")[data.test_rows]).float()
    mean, sd = (torch.tensor(data.statistics[name]) for name in ("mean", "sd"))
    torch.testing.assert_close(test * sd + mean, raw, atol=1e-5, rtol=1e-5)
