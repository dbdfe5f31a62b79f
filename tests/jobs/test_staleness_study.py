"""The study of staleness, tiny: its arms, its continuation, and divergence as a result."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cli import launch
from jobs.studies.staleness import Arm, Staleness, _costs, _job, _qualities, _run
from jobs.studies.staleness_report import figure, table
from pipeline.runs import checkpoint
from pipeline.runs.job import override
from pipeline.runs.storage import Storage

TINY = "--cases digits-short-run digits-persistent --lags 1 --seeds 0 --actors 0 --updates 18"


def results(folder):
    """The results, without what is measured by the clock."""
    runs = json.loads((Path(folder) / "result.json").read_text())["runs"]
    return [{k: v for k, v in one.items() if k != "seconds"} for one in runs]


@pytest.mark.slow
def test_a_study_has_every_arm_and_continues_where_it_stopped(command):
    line = f"studies.staleness {TINY} --samples 20 --out study"
    code, out, err = command(line)
    assert code == 0, err
    runs, text = results("study"), Path("study/staleness.md").read_text()
    assert [(one["case"], one["arm"]) for one in runs] == [
        (f"digits-{chains}", arm) for chains in ("short-run", "persistent") for arm in ("lag 1", "lag 1, bounded")
    ]
    assert len(text.splitlines()) == 2 + len(runs)
    assert text in out
    assert Path("study/staleness.png").read_bytes().startswith(b"\x89PNG")
    for one in runs:
        assert one["updates"] == [3, 6, 9, 12, 15, 18]
        assert len(one["quality"]) == 6
        assert one["staleness"] > 0
        assert (one["waits"] > 0) <= ("bounded" in one["arm"])
    assert any(one["waits"] for one in runs)
    half, gone = (Path("study") / f"digits-persistent-lag1{arm}-seed0" for arm in ("-bounded", ""))
    for name in ("result.json", "quality.json"):
        (half / name).unlink()
    for update in (12, 15, 18):
        shutil.rmtree(checkpoint.checkpoint_folder(Storage.at(str(half / "checkpoints")), update).path)
    shutil.rmtree(gone)
    whole = Path("study/digits-short-run-lag1-seed0/result.json").stat().st_mtime_ns
    assert command(line)[0] == 0
    assert results("study") == runs
    assert Path("study/digits-short-run-lag1-seed0/result.json").stat().st_mtime_ns == whole
    code, _, err = command(line.replace("--updates 18", "--updates 24"))
    assert code == 2
    assert "is a run with other settings: choose another folder" in err


def test_a_run_that_diverges_is_reported_and_not_repeated(tmp_path, monkeypatch, small):
    args = Staleness(actors=0, updates=18, out=str(tmp_path / "study"))
    job = _job(args, "digits-short-run", 0, Arm(1, False))
    job = override(job, recipe=replace(small.recipe, lr=1e30, bank=0, restart_prob=0.0), checkpoint_every=18)
    why = _run(job)
    assert "not finite at update" in why
    monkeypatch.setattr(launch, "run_job", lambda *_: pytest.fail("it is repeated"))
    assert _run(job) == why
    qualities = _qualities(job, 20)
    assert qualities["quality"] == []
    one = {"case": "digits-short-run", "arm": "lag 1", "max_staleness": 0.0, "seed": 0, "diverged": why}
    rows = [{**one, **_costs(job), **qualities}]
    assert table(rows, ["lag 1"]).splitlines()[2].endswith("1 of 1 |")
    assert "1 of 1 diverged" in figure(rows, ["lag 1"]).axes[0].get_legend_handles_labels()[1][0]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--updates 20", "--updates 20: must be a multiple of 6"),
        ("--updates 12 --lags 0 1", "and 18 or more at these lags"),
        ("--cases rings", "--cases rings: not one of digits-short-run"),
        ("--samples 1", "--samples 1: must be greater than or equal to 2"),
        ("--actors 3", "--actors 3: at most one per lane (2)"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(command, flags, why):
    code, _, err = command(f"studies.staleness {flags} --out study")
    assert code == 2
    assert why in err
    assert len(err.splitlines()) == 1
    assert not Path("study").exists()
