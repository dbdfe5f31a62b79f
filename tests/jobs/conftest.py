"""Commands as a user types them, run in the tests' own process."""

import runpy
import sys

import pytest
from running import SMALL


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run `python -m jobs.<line>` in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        module, *args = line.split()
        monkeypatch.setattr(sys, "argv", [module, *args])
        imported = sys.modules.pop(f"jobs.{module}", None)  # or runpy warns
        code = 0
        try:
            runpy.run_module(f"jobs.{module}", run_name="__main__")
        except SystemExit as e:
            code = e.code or 0
        if imported:  # what others have of it must stay what pickle finds
            sys.modules[f"jobs.{module}"] = imported
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def a_run(command):
    code, _, err = command(f"short_run digits {SMALL} --updates 2 --out run")
    assert code == 0, err
    return "run"
