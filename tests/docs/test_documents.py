"""The code in the documents runs as it stands."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def python_blocks(path):
    """The Python code blocks of a document, in one script."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL))


@pytest.mark.parametrize("path", ["docs/library.md"])
def test_the_code_of_a_document_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(python_blocks(path), path, "exec"), {"__name__": "document"})


def block_after(text, heading):
    """The first code block after a heading."""
    return re.search(r"```\w*\n(.*?)```", text[text.index(heading) :], re.DOTALL)[1]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_an_eleventh_paper_is_written_as_contributing_says(tmp_path):
    """It trains, resumes, samples, is evaluated and searched, and passes the contract tests."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in ("pipeline", "jobs", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    recipe, job = "pipeline/recipes/denoising_score_matching.py", "jobs/denoising_score_matching.py"
    for path in (recipe, job):
        (tmp_path / path).write_text(block_after(text, f"`{path}`"))
    insert(tmp_path / "jobs/__init__.py", "EXPERIMENTS = {\n", block_after(text, "**3. One line**"))
    small = tmp_path / "tests/support/small_recipes.py"
    insert(small, "RECIPES = {\n", block_after(text, "**4. One entry**"))
    insert(small, "import pytest\n", f"from {recipe[:-3].replace('/', '.')} import DenoisingScoreMatching\n")
    commands = block_after(text, "Now it trains").strip().splitlines()
    assert len(commands) == 6
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "RAY_ADDRESS": ""}
    for command in commands:
        subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, env=environment, check=True)
    assert len(np.load(tmp_path / "samples.npy")) == 10
    assert json.loads((tmp_path / "run/result.json").read_text())["updates"] == 6
    assert len(json.loads((tmp_path / "search/result.json").read_text())["trials"]) == 2


def insert(path, after, line):
    """Insert a line into a file, after another."""
    content = path.read_text()
    assert after in content
    path.write_text(content.replace(after, after + line, 1))
