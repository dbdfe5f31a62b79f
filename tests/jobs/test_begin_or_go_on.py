"""One command that begins a run or goes on: what a scheduler may run again and again."""

import json
import shlex
from pathlib import Path

import pytest
from running import SMALL

RUN = f"short_run digits {SMALL} --updates 3 --checkpoint-every 2"
AGAIN = f"{RUN} --out run --resume-if-exists"


def sha(out):
    return json.loads(Path(out, "result.json").read_text())["weights_sha256"]


def test_a_budget_of_time_ends_with_a_checkpoint_and_the_same_command_goes_on(command):
    assert command(f"{RUN} --out whole")[0] == 0
    ends = []
    while not Path("run/result.json").exists():
        code, out, err = command(f"{AGAIN} --minutes 1e-9")  # every command makes at least one update
        assert code == 0, err
        ends.append(err.splitlines()[-1] if err else "")
    stopped = [line for line in ends if line.startswith("stopped")]
    assert len(stopped) == 3  # in the end before the final evaluation, which the next command makes
    assert stopped[0].startswith("stopped: the time is up, at update 1 of 3; to go on: ")
    assert shlex.split(stopped[0].partition("to go on: ")[2])[1:] == ["-m", "jobs.resume", str(Path("run").absolute())]
    assert sha("run") == sha("whole")
    before = Path("run/result.json").read_bytes()
    code, out, err = command(AGAIN)
    assert (code, err) == (0, "")
    assert out == f"{Path('run').absolute()} has finished: 3 updates; see its result.json\n"
    assert Path("run/result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--updates 6", "--updates 6: the run has 3"),
        ("--lr .5", "--lr 0.5: the run has 0.00021"),
        ("--data rings", "--data rings: the run has digits"),
        ("--seed 1", "--seed 1: the run has 0"),
        ("--actors 1", "--actors 1: the run has 0"),
    ],
)
def test_other_settings_than_the_runs_are_refused(command, train, flags, line):
    train(RUN)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    code, _, err = command(f"{AGAIN} {flags}")
    assert code == 2
    assert err.startswith(f"error: {line}; jobs.resume ")
    assert len(err.splitlines()) == 1
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


@pytest.mark.parametrize("left", [[], ["job.json.part"]])
def test_a_folder_that_is_only_half_made_begins(command, left):
    Path("run").mkdir()
    for name in left:
        Path("run", name).write_text("{")
    code, _, err = command(AGAIN)
    assert code == 0, err
    assert Path("run/result.json").exists()


def test_a_folder_of_other_things_is_refused(command):
    Path("run").mkdir()
    Path("run/thesis.tex").write_text("")
    code, _, err = command(AGAIN)
    assert (code, err) == (2, "error: --out run: has other files, and no job.json\n")


def test_without_the_flag_a_run_is_never_continued_by_accident(command, train):
    train(RUN)
    code, _, err = command(f"{RUN} --out run")
    assert code == 2
    assert "exists: a run is never overwritten; continue it with --resume-if-exists, or jobs.resume run" in err
