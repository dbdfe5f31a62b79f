"""`jobs.doctor` on the tests' own Ray, and its findings for clusters that there are none of here."""

import json
import threading
from pathlib import Path

import pytest
from running import CPU

from jobs.doctor import ADDRESS, ENVIRONMENT, TOKEN, _advice, _bounded
from pipeline.distributed.doctor import Finding, judge_clocks, judge_gpus
from pipeline.training.collective import measure_all_reduce

CHECKS = [
    "ray",
    "nodes",
    "versions",
    "clocks",
    "folder",
    "ports",
    "all-reduce, gloo",
    "object store",
    "GPUs",
    "all-reduce, nccl",
    "chains",
]


@pytest.fixture
def on_ray(command, ray_session):
    return command


def test_a_healthy_cluster_has_one_line_a_check_and_its_folder_stays_as_it_was(on_ray):
    Path("runs").mkdir()
    code, out, _ = on_ray("doctor --out runs")
    *lines, last = out.splitlines()
    assert (code, last) == (0, "the cluster is well")
    assert [line[6:25].strip() for line in lines] == CHECKS
    assert {line[:6].strip() for line in lines[1:]} == {"ok"}, out
    assert not list(Path("runs").iterdir())


def test_schedulers_read_json_and_the_exit_code(on_ray):
    code, out, _ = on_ray("doctor --json --nodes 2 --out not/there/yet")
    findings = json.loads(out)
    assert (code, findings["ok"]) == (1, False)
    assert [one["check"] for one in findings["checks"]] == CHECKS
    failed = [one for one in findings["checks"] if one["status"] == "fail"]
    assert [(one["check"], one["text"]) for one in failed] == [
        ("nodes", "1 alive with 2 CPU and 0 GPU; 2 must be there")
    ]
    assert not Path("not/there/yet").exists()


def test_without_a_cluster_there_is_one_line_that_says_what_to_do(command, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, out, err = command("doctor")
    assert code == 1
    assert out.splitlines()[0].startswith("fail  ray                no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1")
    assert len(out.splitlines()) == 2
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("InvalidAuthToken: Authentication token is missing", TOKEN),
        ("Failed to connect to Ray cluster at 10.0.0.1:6379", TOKEN),
        ("Version mismatch: The cluster was started with:", ENVIRONMENT),
        ("Connection refused", ADDRESS),
    ],
)
def test_advice_fits_the_error(error, advice):
    assert _advice(error) == advice


def test_a_check_that_hangs_or_fails_is_a_finding():
    never, hung = threading.Event(), threading.Event()
    finding = _bounded("folder", never.wait, -3.3, hung)  # a tenth of a second in all
    assert (finding.check, finding.status, hung.is_set()) == ("folder", "fail", True)
    never.set()
    hung.clear()
    assert "ZeroDivisionError" in _bounded("ports", lambda: 1 / 0, 1, hung).text
    assert not hung.is_set()
    assert _bounded("ports", lambda: Finding("ports", "ok", "all"), 1, hung).status == "ok"


def test_clocks_that_differ_are_named_with_their_sign():
    assert judge_clocks({"a": 0.1, "b": -0.2}, {}) == Finding("clocks", "ok", "at most 200 ms apart")
    assert judge_clocks({"a": 0.1, "b": -90.0}, {})[1:3] == ("warn", "b (-90.0 s)")
    assert judge_clocks({"a": 0.1}, {"b": "no answer in 5 s"})[1:3] == ("fail", "b (no answer in 5 s)")


def test_gpus_are_compared_with_what_torch_can_use_and_what_ray_gives():
    h100, other = "NVIDIA H100, 550.54", "NVIDIA H100, 535.1"
    assert judge_gpus({"a": ([], 0, 0)}, {}) == Finding("GPUs", "ok", "none")
    assert judge_gpus({"a": ([h100] * 2, 2, 2), "b": ([h100], 1, 1)}, {})[1:3] == ("ok", f"3 x {h100}")
    assert judge_gpus({"a": ([h100], 0, 1)}, {})[1:3] == ("fail", "a (1 GPUs, Ray gives 1, torch can use 0)")
    assert judge_gpus({"a": ([], 0, 1)}, {}).status == "fail"
    assert judge_gpus({"a": ([h100] * 2, 2, 1)}, {})[1:3] == ("warn", "a (2 GPUs, Ray gives 1)")
    assert judge_gpus({"a": ([h100], 1, 1), "b": ([other], 1, 1)}, {}).status == "warn"


def test_an_all_reduce_of_one_process_is_timed_and_leaves_no_group():
    assert measure_all_reduce(0, 1, "127.0.0.1:0", 16, 10.0, CPU) > 0
    assert measure_all_reduce(0, 1, "127.0.0.1:0", 16, 10.0, CPU) > 0
