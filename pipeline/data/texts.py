"""Texts as words.

Texts are normalised (NFC) and in lower case. A word is a run of letters, digits and the marks on them, perhaps with an
apostrophe; a sign stands alone. In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer,
Burmese), every letter with its marks is a word.
"""

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache

import numpy as np

from pipeline.data.arrow_table import Columns, Content
from pipeline.data.tables import Rows
from pipeline.errors import InputError

WITHOUT_SPACES = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff"  # Khmer, Tai
    "\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3041-\u312f\u31a0-\u31ff"  # Kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"  # Han
)
"""Letters of scripts without spaces between words, as a class of a regular expression."""
SPACING_MARKS = "\u0e33\u0eb3"
"""Vowels of Thai and Lao that Unicode calls letters, although they are marks on the letter before."""
JOINERS = "\u200c\u200d"
"""They join letters, or pictures to one picture."""


def split_words(text: str) -> list[str]:
    """The words and signs of a text.

    >>> split_words("The cafe\u0301 isn't far!")
    ['the', 'café', "isn't", 'far', '!']
    >>> split_words("我喜欢 EBMs")
    ['我', '喜', '欢', 'ebms']
    """
    text = unicodedata.normalize("NFC", text.lower())
    return _plain_words().findall(text) if text.isascii() else _words().findall(text)


def join_words(words: Iterable[str]) -> str:
    """Words as a text: with spaces between them, except in scripts that have none."""
    text, joins = "", True
    for word in words:
        is_letter = _without_spaces().match(word) is not None
        text += word if joins and (is_letter or not text) else f" {word}"
        joins = is_letter
    return text


@cache
def _plain_words() -> re.Pattern[str]:
    return re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")


@cache
def _without_spaces() -> re.Pattern[str]:
    return re.compile(f"[{WITHOUT_SPACES}]")


@cache
def _words() -> re.Pattern[str]:
    """As `_plain_words`, with marks, joined letters and pictures, and scripts without spaces."""
    marks = f"[{_marks()}]"
    one = f"(?![{WITHOUT_SPACES}])[^\\W_]"
    run = f"(?:{one}|{marks}|(?<=[^\\s])[{JOINERS}](?=[^\\W_]))"
    sign = f"[^\\w\\s{_marks()}]{marks}*[\U0001f3fb-\U0001f3ff]?{marks}*"
    flag = "[\U0001f1e6-\U0001f1ff]{2}"
    return re.compile(
        f"[{WITHOUT_SPACES}](?:{marks}|[{SPACING_MARKS}])*|{one}{run}*(?:'{one}{run}*)?|{flag}|{sign}(?:\u200d{sign})*|{marks}+"
    )


@cache
def _marks() -> str:
    """Combining marks and vowel signs, as a class of a regular expression; which `re` does not count among letters."""
    points = [i for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i))[0] == "M"]
    starts = [i for i in points if unicodedata.category(chr(i - 1))[0] != "M"]
    ends = [i for i in points if i == sys.maxunicode or unicodedata.category(chr(i + 1))[0] != "M"]
    return "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in zip(starts, ends, strict=True))


def text_content(read: Callable[[], Iterable[Rows]], column: str) -> Content:
    """The content of a table of texts: ragged int32 `x` of the numbers of their words, the most frequent first.

    Args:
        read: the rows; it is called twice, since the first pass counts the words.
        column: of the texts.

    Raises:
        InputError: a text is missing or none, or no text has a word. Reading the content may raise it, too.
    """
    counts = Counter(word for rows in read() for text in _texts(rows, column) for word in split_words(text))
    if not counts:
        raise InputError("there is no word in any text")
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return Content(_numbered(read(), column, words), words, hash_prefix=json.dumps(words))


def _texts(rows: Rows, column: str) -> Iterator[str]:
    for i, text in enumerate(rows.columns[column].to_pylist()):
        if not isinstance(text, str):
            what = "it is missing" if text is None else type(text).__name__
            raise InputError(f"column {column} does not hold texts, but in {rows.place(i)} {what}")
        yield text


def _numbered(pieces: Iterable[Rows], column: str, words: list[str]) -> Iterator[Columns]:
    numbers = {word: i for i, word in enumerate(words)}
    for rows in pieces:
        x = [np.array([numbers[word] for word in split_words(text)], np.int32) for text in _texts(rows, column)]
        yield {"x": x} if rows.label is None else {"x": x, "label": rows.label}
