"""The code in the documents runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python_blocks(path):
    """The Python code blocks of a document, in one script."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL))


@pytest.mark.parametrize("path", ["docs/library.md"])
def test_the_code_of_a_document_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(python_blocks(path), path, "exec"), {"__name__": "document"})
