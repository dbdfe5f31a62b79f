"""`python -m jobs.report`: what its page says is what the folders say."""

import json
import shutil
from pathlib import Path

import pytest
from reporting import DIGITS, report
from running import SMALL, features_in, sentences_in

from pipeline.evaluation.convergence.evidence import Evidence, StartTrajectory
from pipeline.evaluation.convergence.verdict import Verdict, decide, to_json
from pipeline.report.markup import short

ONE_PROCESS = "--learners 0 --actors 0"
DIFFERING = "Settings that differ"


def read(path):
    return json.loads(Path(path).read_text())


def test_the_page_of_a_run_has_the_numbers_of_its_folder(command, train):
    run = train(DIGITS)
    result, page = read(f"{run}/result.json"), report(command, run)
    assert len(result["metrics"]) > 3
    for name, one in result["metrics"].items():
        (cell,) = page.row("Metrics", name)
        assert cell["values"][0] == one["value"]
        assert one["protocol"] in cell["text"]
        assert cell["text"].startswith(short(one["value"]))
    assert {*result["protocols"]} <= {*page.names("Protocols")}
    for name, shown in {"wall time": "wall_seconds", "CPU time, all processes": "cpu_seconds",
                        "gradient evaluations": "gradient_evaluations", "updates": "updates"}.items():  # fmt: skip
        assert page.row("Cost and faults", name)[0]["values"] == [result[shown]]
    assert [cell["text"] for cell in page.row(DIFFERING, "updates")] == ["4", "2000"]  # this run's, the preset's
    assert "Preset short_run-digits." in page.text
    assert [f"update {i}" in " ".join(page.images) for i in range(1, 5)] == [True] * 4
    assert any("final" in alt for alt in page.images)
    assert "energy/gap over updates: " in page.text
    assert "nobody observed the run" in page.text
    assert "script" not in page.tags
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)


def test_seeds_and_settings_side_by_side(command, train):
    runs = [train(f"{DIGITS} --seed {seed}", f"seed-{seed}") for seed in (0, 1)]
    runs.append(train(f"{DIGITS} --lr 1e-3", "other"))
    page = report(command, " ".join(runs))
    results = [read(f"{run}/result.json") for run in runs]
    assert [cell["text"] for cell in page.row(DIFFERING, "seed")] == ["0", "1", "0", "0"]
    assert [cell["text"] for cell in page.row(DIFFERING, "lr")] == ["0.00021", "0.00021", "0.001", "0.00021"]
    *cells, spread, protocols = page.row("Metrics", "frechet")
    values = [one["metrics"]["frechet"]["value"] for one in results]
    assert [cell["values"][0] for cell in cells] == values
    assert spread["text"].startswith(f"{short(sum(values[:2]) / 2)} ± ")
    assert protocols["text"] == "differ in seed"
    for label in ("seed-0", "seed-1", "other"):
        assert label in page.text


def test_a_later_evaluation_stands_beside_the_final_one(command, train):
    run = train(DIGITS)
    code, _, err = command(f"evaluate {run} --metrics samples --n 20")
    assert code == 0, err
    page = report(command, run)
    final, later, protocols = page.row("Metrics", "frechet")
    assert later["values"] == final["values"] == [read(f"{run}/evaluate-4/result.json")["metrics"]["frechet"]["value"]]
    assert protocols["text"] == "the same"
    assert any("evaluate-4: samples" in alt for alt in page.images)


def evidence(update, finite=True):
    """What an observer of chains of K = 10 steps may have seen."""
    good = {1: 0.3, 10: 0.2, 100: 0.2}
    start = StartTrajectory(good, {0: 1.0, **good}, {0: 2.0, **good}, 0.1, 1.01, 50.0, 0.5)
    starts = {"noise": start, "data": start._replace(energy_shift=float("nan"))}
    settled = (1.02, 1.02, finite, {}, 0.1, 1.0)
    return Evidence(update, 0, 10, 100, 250, 1.0, "noise", "kl", 0.11, starts, *settled)


def test_verdicts_of_observers_and_evaluations_are_shown(command, train):
    run = train(DIGITS)
    rows = [to_json(one, decide(one)) for one in (evidence(2, finite=False), evidence(3))]
    Path(run, "observe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path(run, "evaluate-4").mkdir()
    own = {**to_json(evidence(4), Verdict("convergent", "so it <is>")), "energy_shift": float("nan")}
    content = {"update": 4, "metrics": {}, "protocols": {}, "convergence": own}
    Path(run, "evaluate-4", "result.json").write_text(json.dumps(content))
    page = report(command, run)
    assert "Verdict on convergence: convergent (update 4)." in page.text
    assert "at update 4: so it <is>" in page.text
    said = [[cell["text"] for cell in row[1:3]] for row in page.tables["All verdicts"][1:]]
    assert said == [["observer", "diverging"], ["observer", rows[1]["verdict"]], ["evaluate-4", "convergent"]]
    assert "kl along long chains: from noise from 0.3 to 0.2; from data from 0.3 to 0.2" in page.text
    divergence = {"update": 0, "attempt": 0, "verdict": "diverging", "why": "diverged before anyone observed it"}
    Path(run, "observe.jsonl").write_text(json.dumps(divergence) + "\n")
    shutil.rmtree(f"{run}/evaluate-4")
    assert divergence["why"] in report(command, run).text


def test_runs_on_text_counts_and_vectors(command, tmp_path):
    text, table = sentences_in(tmp_path), features_in(tmp_path)
    small = f"{ONE_PROCESS} --updates 2 --batch-size 8 --latent-dim 3 --prior-steps 2 --eval-samples 0"
    lines = {
        "text": f"latent_prior snli --data {text} {small}",
        "counts": f"symbol_vector ag-news --data {text} {small} --labelled-batch-size 4 --labels-per-class 2",
        "vectors": f"short_run eight-gaussians --data {table} {ONE_PROCESS} --updates 2 --batch-size 8 --steps 2",
    }
    for name, line in lines.items():
        code, _, err = command(f"{line} --out {name}")
        assert code == 0, err
    page = report(command, " ".join(lines))
    assert "No samples along the run" in page.text
    for name in lines:
        assert Path(name, "samples").exists() == (name == "text")
        for metric, one in read(f"{name}/result.json")["metrics"].items():
            assert one["value"] in [value for cell in page.row("Metrics", metric) for value in cell["values"]]
    sentences = Path("text/samples/update-00000002.txt").read_text().splitlines()[:8]
    assert len({*sentences}) > 1
    assert all(sentence in page.text for sentence in sentences)


def test_a_run_that_diverged_one_that_rolled_back_and_one_that_is_not_finished(command, train):
    diverging = f"short_run digits {SMALL} --updates 5 --lr 1e30"
    assert command(f"{diverging} --out stopped")[0] == 1
    reason = read("stopped/result.json")["diverged"]["reason"]
    back = "--on-divergence rollback --rollback-lr-factor 1e-34"
    assert command(f"{diverging} {back} --out back")[0] == 0
    train(f"short_run digits {SMALL} --updates 2", "half")
    Path("half/result.json").unlink()  # as a run at work has it
    page = report(command, "stopped back half")
    assert f"Ended after 1 of 5 updates: {reason}" in page.text
    assert f"The run {reason}" not in page.text
    assert f"stopped {reason}" in page.text
    assert read("back/result.json")["rollbacks"][0]["reason"] in page.text
    assert [cell["values"] for cell in page.row("Cost and faults", "rollbacks")] == [[0], [1], [0]]
    assert "At work, or interrupted, after 2 of 2 updates" in page.text
    assert command(f"resume stopped {back}")[0] == 0
    assert "diverged" not in read("stopped/result.json")
    empty = Path("empty")
    empty.mkdir()
    shutil.copy("half/job.json", empty)
    assert "No update is logged yet, of 2." in report(command, "empty").text


def test_numbers_that_are_not_finite_are_shown_as_such(command, train):
    run = train(DIGITS)
    result, lines = read(f"{run}/result.json"), Path(run, "metrics.jsonl").read_text().splitlines()
    result["metrics"]["frechet"] |= {"value": float("nan"), "note": "not finite"}
    Path(run, "result.json").write_text(json.dumps(result))
    rows = [json.loads(line) for line in lines]
    rows[-1]["energy/gap"] = float("inf")
    Path(run, "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"update": 9, "torn')
    page = report(command, run)
    assert page.row("Metrics", "frechet")[0]["text"].startswith("not a number")
    assert f"1 of {len(result['metrics'])} metrics are not finite." in page.text
    assert f"1 values are not finite, the first at update {rows[-1]['update']}." in page.text


def test_names_that_look_like_html_are_text(command, tmp_path):
    rows = [f"{i},{i % 5},<script>{i % 2}\n" for i in range(40)]
    command("--help")  # in the command's folder from here on
    Path("points.csv").write_text("x,y,label\n" + "".join(rows))
    line = f"short_run eight-gaussians --data points.csv {ONE_PROCESS} --updates 2 --batch-size 8 --steps 2"
    code, _, err = command(f"{line} --held-out-class '<script>1' --name '<script>\"x\"&' --eval-samples 0 --out run")
    assert code == 0, err
    page = report(command, "run")
    assert "script" not in page.tags
    assert '<script>"x"&' in page.text
    assert page.row(DIFFERING, "data.held_out_class")[0]["text"] == "<script>1"
    assert "nearest one is" in page.text


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--out p.html", "runs: name one run or more"),
        ("nowhere --out p.html", "run nowhere: there is no run here: no job.json"),
        ("run ./run --out p.html", "run run: is named twice"),
        ("run --out p.txt", "--out p.txt: its name must end in .html"),
        ("run --out none/p.html", "--out none/p.html: is in a folder that does not exist"),
        ("run --out old.html", "--out old.html: exists"),
        ("old --out p.html", "run old: it has an older format, this version reads 5"),
        ("torn --out p.html", "run torn: job.json is not JSON"),
        ("half-torn --out p.html", "run half-torn: a file in it cannot be read"),
        ("search --out p.html", "run search: a file in it cannot be read"),
        ("run/job.json --out p.html", "run run/job.json: there is no run here"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(command, a_run, line, error):
    for folder, content in {"old": "{}", "torn": "{"}.items():
        Path(folder).mkdir()
        Path(folder, "job.json").write_text(content)
    shutil.copytree(a_run, "half-torn")
    Path("half-torn/result.json").write_text('{"name": ')
    Path("search").mkdir()
    Path("search/search.json").write_text("[]")
    Path("old.html").write_text("mine")
    code, out, err = command(f"report {line}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {error}")
    assert Path("old.html").read_text() == "mine"
    assert not Path("p.html").exists()
