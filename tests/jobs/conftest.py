"""Commands as a user types them, run in the tests' own process."""

import shlex
import shutil

import pytest
from running import SMALL

from jobs.__main__ import dispatch
from jobs.cli.command import run_command


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run `ebm <line>` in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        code = 0
        try:
            run_command(dispatch, shlex.split(line))
        except SystemExit as e:
            code = e.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory):
    """The folders of the runs that `train` has made, by command line."""
    return tmp_path_factory.mktemp("trained"), {}


@pytest.fixture
def train(command, trained_runs):
    """Train `ebm <line>` once a session; each test gets a copy of the run folder."""
    base, folders = trained_runs

    def run(line, out="run"):
        if line not in folders:
            folder = base / str(len(folders))
            code, _, err = command(f"{line} --out {folder}")
            assert code == 0, err
            folders[line] = folder
        shutil.copytree(folders[line], out)
        return out

    return run


@pytest.fixture
def a_run(train):
    return train(f"short_run digits {SMALL} --updates 2")
