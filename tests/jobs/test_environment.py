"""Commands in containers and on login nodes: without a home or a name, with long paths, beside another Ray."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from running import SMALL

LINE = [sys.executable, "-m", "jobs.short_run", "digits", *SMALL.split(), "--updates", "2", "--out", "run"]
ROOT = str(Path(__file__).resolve().parents[2])
NOBODY = 12345
"""A user id without a name."""


def start(folder, line=LINE, user=None, **changes):
    """The result of a command in a folder, in this environment with changes; None: without a variable."""
    env = {**os.environ, "PYTHONPATH": ROOT, **{name: value for name, value in changes.items() if value is not None}}
    env = {name: value for name, value in env.items() if not (name in changes and changes[name] is None)}
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, user=user)


def weights(folder):
    return json.loads((folder / "run/result.json").read_text())["weights_sha256"]


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usual")
    assert start(folder).returncode == 0
    return weights(folder)


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/nowhere", "/proc"])
def test_no_home_or_one_that_cannot_be_written_to(tmp_path, usual, home):
    done = start(tmp_path, HOME=home, EBM_CACHE=None, MPLCONFIGDIR=None)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert weights(tmp_path) == usual


@pytest.fixture
def folder_of_nobody():
    """A folder that a user without a name owns; pytest's are closed to other users."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        try:
            readable = start(folder, [sys.executable, "-c", "import jobs"], user=NOBODY).returncode == 0
        except PermissionError:
            readable = False
        if not readable:
            pytest.skip("other users cannot read this installation")
        yield Path(folder)


@pytest.mark.slow
def test_a_user_without_a_name(folder_of_nobody, usual):
    changes = {"HOME": "/", "EBM_CACHE": None, "USER": None, "LOGNAME": None, "TMPDIR": str(folder_of_nobody)}
    done = start(folder_of_nobody, user=NOBODY, **changes)
    assert done.returncode == 0, done.stderr
    assert weights(folder_of_nobody) == usual


@pytest.mark.slow
def test_ray_starts_under_a_long_temporary_folder_and_beside_another_ray(tmp_path, usual, ray_session):
    temporary = tmp_path / ("long" * 25)
    temporary.mkdir()
    line = [*LINE, "--learners", "1", "--actors", "1", "--cpus-per-learner", ".25", "--cpus-per-actor", ".25"]
    done = start(tmp_path, line, TMPDIR=str(temporary), RAY_ADDRESS=None)
    assert done.returncode == 0, done.stderr
    assert not [word for word in ("Traceback", "Error:", "(raylet)", "WARNING") if word in done.stderr], done.stderr
    assert weights(tmp_path) == usual
    assert not (tmp_path / "run/ray").exists()


@pytest.mark.slow
@pytest.mark.parametrize("line", [LINE, [*LINE[:4], "--help"]])
def test_streams_that_know_ascii_alone(tmp_path, line):
    done = start(tmp_path, line, PYTHONIOENCODING="ascii", LANG="C", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
