"""`jobs.plan` as a user types it."""

import json
from pathlib import Path

import pytest

GIVEN = "plan short-run digits-K40 --chain-step 1e-3 --learn-item 1e-3"
BAD = {
    "plan short-run digits": "name the costs: --calibrate, --costs FILE, or --chain-step and --learn-item",
    "plan nothing --calibrate": "experiment nothing: not one of",
    "plan short-run nothing --calibrate": "preset nothing: not one of",
    "plan short-run digits --costs absent.json": "--costs absent.json: does not exist",
    "plan short-run digits --costs other.json": "--costs other.json: no file of costs",
    "plan short-run digits --costs K40.json": "--costs K40.json: has the costs of short_run-digits-K40, not of",
    "plan short-run digits-K40 --costs K40.json --gpus 4": "--gpus 4: the costs are of a CPU",
    "plan short-run digits-K40 --costs K40.json --calibrate": "--costs K40.json: is measured with --calibrate",
    f"{GIVEN} --gpus 9 --nodes 2": "--gpus 9: must be a multiple of the nodes (2)",
    f"{GIVEN} --nodes 0": "--nodes 0: must be greater than or equal to 1",
    f"{GIVEN} --bandwidth 0": "--bandwidth 0.0: must be greater than 0",
    f"{GIVEN} --faults nan": "--faults nan: must be a finite number",
    f"{GIVEN} --lanes 5": "no layout has these lanes, learners and actors: lanes may be 1, 2, 4, 8, 16, 32, 64;",
    f"{GIVEN} --lanes 4 --actors 5": "no layout has these lanes, learners and actors",
    f"{GIVEN} --lags": "--lags: must not be empty",
    f"{GIVEN} --out full": "--out full: exists",
}


@pytest.fixture
def costs(command):
    assert command(f"{GIVEN} --cores 4 --actors 2 --lags 0 --out given")[0] == 0
    Path("K40.json").write_text(Path("given/costs.json").read_text())
    Path("other.json").write_text("{}")
    Path("full").mkdir()
    Path("full/file").write_text("")


def test_bad_input_is_one_line_and_nothing_is_written(command, costs):
    for line, message in BAD.items():
        code, out, err = command(line)
        assert (code, out) == (2, ""), (line, err)
        assert err.count("\n") == 1, err
        assert message in err, line
    assert not Path("runs").exists()


def test_a_plan_has_a_table_a_figure_and_costs_that_make_the_same_plan(command):
    code, out, _ = command(f"{GIVEN} --nodes 2 --cores 4 --faults 1 --out one")
    assert code == 0
    for name in ("recommended", "updates per second", "bottleneck", "memory", "the whole run", "core-hours"):
        assert name in out
    assert Path("one/plan.png").read_bytes().startswith(b"\x89PNG")
    again = "plan short-run digits-K40 --costs one/costs.json --nodes 2 --cores 4 --faults 1 --out two --json"
    code, out, _ = command(again)
    assert code == 0
    first, second = json.loads(Path("one/plan.json").read_text()), json.loads(out)
    assert first["recommended"] == second["recommended"]
    assert first["by_actors"] == second["by_actors"]
    assert second == json.loads(Path("two/plan.json").read_text())


def test_a_recommended_layout_is_one_that_the_experiment_takes(command):
    assert command(f"{GIVEN} --cores 4 --out plan")[0] == 0
    best = json.loads(Path("plan/plan.json").read_text())["recommended"]
    flags = " ".join(f"--{name} {best[name]}" for name in ("lanes", "lag"))
    code, _, err = command(
        f"short-run digits-K40 {flags} --learners 0 --actors 0 --updates 1 --eval-samples 0 --out run"
    )
    assert code == 0, err
    assert best["learners"] <= best["lanes"]
    assert best["lanes"] % best["learners"] == 0
    assert best["actors"] <= best["lanes"]
