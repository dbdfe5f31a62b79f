"""Words of texts in any script."""

import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.dataset import load_data
from pipeline.data.texts import join_words, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat's mat, isn't it? 3.5 a_b", ["the", "cat's", "mat", ",", "isn't", "it", "?", "3", ".", "5", "a", "b"]),
        ("Cafe\u0301 caf\u00e9 NAI\u0308VE", ["caf\u00e9", "caf\u00e9", "na\u00efve"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("שָׁלוֹם עולם", [unicodedata.normalize("NFC", "שָׁלוֹם"), "עולם"]),
        ("مُحَمَّد هنا", [unicodedata.normalize("NFC", "مُحَمَّد"), "هنا"]),
        ("தமிழ் মানুষ", ["தமிழ்", "মানুষ"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("안녕 세계", ["안녕", "세계"]),
        (unicodedata.normalize("NFD", "안녕 세계"), ["안녕", "세계"]),
        ("我喜欢EBM模型。", ["我", "喜", "欢", "ebm", "模", "型", "。"]),
        ("カタガナ", ["カ", "タ", "ガ", "ナ"]),
        (unicodedata.normalize("NFD", "ガギ"), ["ガ", "ギ"]),
        ("ที่นี่ กำ", ["ที่", "นี่", "กำ"]),
        ("x\u0302\u0323 q\u0307", ["x\u0323\u0302", "q\u0307"]),
        ("ok 👍🏽 👨‍👩‍👧 🇩🇪🇫🇷 ❤️", ["ok", "👍🏽", "👨‍👩‍👧", "🇩🇪", "🇫🇷", "❤️"]),
        ("İstanbul", ["i\u0307stanbul"]),
    ],
)
def test_words_of_a_text(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize("text", ["我喜欢猫。", "ฉันรักแมว", "hello world", "我 喜欢 cats 和 dogs"])
def test_nothing_of_a_text_is_lost_but_spaces(text):
    words = split_words(text)
    assert "".join(words) == text.replace(" ", "")
    assert split_words(join_words(words)) == words


def test_scripts_without_spaces_are_joined_without():
    assert join_words(["我", "喜", "欢", "ebm", "模", "型"]) == "我喜欢 ebm 模型"
    assert join_words(["the", "cat", "."]) == "the cat ."
    assert join_words([]) == ""


def test_two_forms_of_a_letter_are_one_word(tmp_path):
    pq.write_table(pa.table({"text": ["caf\u00e9 x", "cafe\u0301 x"]}), tmp_path / "a.parquet")
    data = load_data(str(tmp_path / "a.parquet"))
    x = data.batch(np.arange(2))["x"]
    assert x[0].tolist() == x[1].tolist()
    assert data.to_sentences(x) == ["café x"] * 2
