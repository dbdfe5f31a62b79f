"""What a run folder says about its run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from running import Fragile, run

from pipeline.errors import Diverged, InputError
from pipeline.runs.job import override
from pipeline.runs.record import FAULT_NAMES, read_run

MODULES = ["running"]


@pytest.fixture
def rolled_back(small):
    """A job that diverges once, and goes on."""
    fragile = Fragile.like(small.recipe, at=4, attempts=1)
    return override(small, recipe=fragile, on_divergence="rollback")


def test_the_newest_checkpoint_says_what_the_result_says(rolled_back):
    run(rolled_back)
    ended = read_run(rolled_back.out, MODULES)
    Path(rolled_back.out, "result.json").unlink()
    at_work = read_run(rolled_back.out, MODULES)
    assert (ended.updates, at_work.updates) == (6, 6)
    assert len(ended.rollbacks) == 1
    assert ended.rollbacks[0]["resumed_at"] == 4
    assert at_work.rollbacks == ended.rollbacks
    for name in ("gradient_evaluations", "staleness_waits", *FAULT_NAMES):
        assert at_work.counters[name] == ended.counters[name], name
    assert [row["update"] for row in at_work.rows] == list(range(6))


def test_divergence_is_in_the_folder_until_the_run_goes_on(rolled_back):
    stopped = override(rolled_back, on_divergence="stop")
    with pytest.raises(Diverged) as diverged:
        run(stopped)
    record = read_run(stopped.out, MODULES)
    assert record.diverged == str(diverged.value)
    assert (record.updates, record.result) == (4, {})
    run(rolled_back)
    assert read_run(stopped.out, MODULES).diverged == ""


def test_evaluations_are_found_and_other_results_are_not(small):
    run(small)
    found = {
        "evaluate-6": {"update": 6, "metrics": {}, "protocols": {}},
        "mine": {"update": 2, "metrics": {}, "protocols": {}},
    }
    found["reconstruct-6"] = {"update": 6, "metrics": {}}
    for name, content in found.items():
        Path(small.out, name).mkdir()
        Path(small.out, name, "result.json").write_text(json.dumps(content))
    record = read_run(small.out)
    assert list(record.evaluations) == ["mine", "evaluate-6"]
    assert record.pictures["samples"] == ["update-00000002.png", "update-00000004.png", "update-00000006.png"]
    assert record.written.endswith(" UTC")


def test_a_file_that_is_not_what_it_should_be_is_an_input_error(small):
    run(small)
    Path(small.out, "result.json").write_text("[1")
    with pytest.raises(InputError, match="a file in it cannot be read"):
        read_run(small.out)
    with pytest.raises(InputError, match=r"no job\.json"):
        read_run(replace(small, out=f"{small.out}-not").out)
