"""The report of a search: its front, its trials and its confirmation are those of its folder."""

import json
from pathlib import Path

import pytest
from reporting import report
from searching import search_in_process

SETTINGS = [{"noise": 0.05, "steps": steps, "drift": 1.0, "lr": 1e-3, "anneal_from": 0.5} for steps in (5, 10)]


@pytest.fixture(scope="module")
def search_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "found"
    search_in_process(folder, SETTINGS)
    return folder


def test_front_slices_trials_and_confirmation(command, search_folder):
    page, result = report(command, search_folder), json.loads(Path(search_folder, "result.json").read_text())
    trials = {one["name"]: one for one in result["trials"]}
    front = {one["name"] for one in result["front"]}
    assert page.names("Best trials") == ["trial", *(name for name, one in trials.items() if not one["diverged"])]
    for name in page.names("Best trials")[1:]:
        quality, end, on_front, cost, *settings = page.row("Best trials", name)
        assert quality["values"] == [trials[name]["quality"]]
        assert end["text"] == "complete"
        assert on_front["text"] == ("yes" if name in front else "no")
        assert cost["values"] == [trials[name]["gradient_evaluations"]]
        assert settings[1]["text"] == str(trials[name]["settings"]["steps"])
    for name, one in result["confirmed"].items():
        label = f"{name} (best)" if name == result["best"] else name
        assert [cell["values"] for cell in page.row("Confirmation", label)[:2]] == [[value] for value in one["quality"]]
    assert "2 complete, 0 stopped early, 1 diverged, 0 failed" in page.text
    for name in SETTINGS[0]:
        assert f"kl at the end of each trial against {name}" in page.text
    assert "with the Pareto front" in page.text
    assert page.text.count(": infinite at ") >= 1


def test_a_search_that_has_not_ended(command, tmp_path):
    search_in_process(tmp_path / "half", SETTINGS[:1], seeds=())
    page = report(command, "half")
    assert "The search has not ended. 2 of 2 trials have reported so far: 1 complete" in page.text
    assert "It comes at the end of the search." in page.text
    assert page.names("Best trials") == ["trial", "trial-0"]


def test_a_trial_is_a_run_and_stands_beside_its_search(command, search_folder):
    page = report(command, f"{search_folder}/trials/trial-0 {search_folder}")
    assert "Search of short_run-eight-gaussians (found)" in page.text
    assert "short_run-eight-gaussians" in page.text
