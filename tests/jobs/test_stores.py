"""Every command that takes a run or an `--out`, on runs in object stores, and in folders of any name."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from running import SMALL
from store_servers import BUCKET, KEYS, PORTS, SCHEMES, free_port, query, serve

from pipeline.runs import checkpoint
from pipeline.runs.storage import Storage

FOLDERS = ("s3", "s3 with a query", "gs", "gs with a query")
ENVIRONMENT = {"s3": "AWS_ENDPOINT_URL", "gs": "STORAGE_EMULATOR_HOST"}
INFERENCE = "--learners 0 --actors 0 --width 8 --batch-size 8 --steps 3 --eval-samples 0 --updates 2 --test-share .1"
LITTLE_RAY = "--cpus-per-learner .25 --cpus-per-actor .25"


@pytest.fixture
def remote(request, tmp_path, monkeypatch):
    """Makes the URI of a name in a folder of a store, quoted for a shell: `remote("run")`."""
    store, _, with_query = request.param.partition(" ")
    request.getfixturevalue(f"{store}_server")
    if with_query:
        monkeypatch.delenv(ENVIRONMENT[store])
    folder = Storage.at(f"{SCHEMES[store]}{BUCKET}/{tmp_path.name}{query(PORTS[store]) if with_query else ''}")
    return lambda name: shlex.quote((folder / name).uri)


def at(quoted):
    return Storage.at(*shlex.split(quoted))


def weights(quoted):
    return at(quoted).read_json("result.json")["weights_sha256"]


def ok(command, line):
    code, out, err = command(line)
    assert code == 0, err
    return out


@pytest.mark.slow
@pytest.mark.parametrize("remote", FOLDERS, indirect=True)
def test_one_command_begins_and_goes_on_with_data_in_a_store(command, remote):
    data, run = remote("data"), remote("run")
    at(data).write("points.csv", b"x,y,label\n" + b"".join(b"%d,%d,%d\n" % (i, i * i, i % 2) for i in range(40)))
    line = f"short_run eight-gaussians --data {data} --learners 0 --actors 0 --batch-size 8 --steps 2 --eval-samples 0"
    ok(command, f"{line} --updates 2 --out {run} --resume-if-exists")
    before = weights(run)
    assert "has finished" in ok(command, f"{line} --updates 2 --out {run} --resume-if-exists")
    at(run).remove("result.json")
    ok(command, f"{line} --updates 2 --out {run} --resume-if-exists")
    assert weights(run) == before
    code, _, err = command(f"{line} --updates 3 --out {run} --resume-if-exists")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("remote", [FOLDERS[1], *(pytest.param(FOLDERS[i], marks=pytest.mark.slow) for i in (0, 2, 3))],
                         indirect=True)  # fmt: skip
def test_a_run_is_trained_continued_measured_and_sampled_from_and_to(command, remote, a_run):
    run = remote("run")
    ok(command, f"short_run digits {SMALL} --updates 1 --out {run}")
    code, _, err = command(f"short_run digits {SMALL} --updates 1 --out {run}")
    assert (code, err.count("\n")) == (2, 1)
    assert f"continue it with --resume-if-exists, or jobs.resume {run}" in err
    ok(command, f"resume {run} --updates 2")
    assert weights(run) == weights(a_run)
    out = ok(command, f"evaluate {run} --metrics samples --n 20")
    assert str(at(run) / "evaluate-2" / "result.json") in out
    ok(command, f"evaluate {run} --metrics samples --n 20 --out {remote('measured')}")
    ok(command, f"evaluate {a_run} --metrics samples --n 20")
    same = [place.read_json("result.json")["metrics"] for place in
            (at(run) / "evaluate-2", at(remote("measured")), Storage.at(a_run) / "evaluate-2")]  # fmt: skip
    assert same[0] == same[1] == same[2]
    ok(command, f"report {run} {a_run} --out {remote('page.html')}")
    assert at(remote("")).read("page.html").startswith(b"<!DOCTYPE html>")
    code, _, err = command(f"report {run} --out {remote('page.html')}")
    assert (code, err.count("\n")) == (2, 1)
    for name in ("x.npy", "x.parquet", "blocks"):
        ok(command, f"sample {run} --n 8 --block 4 --out {remote(name)}")
    ok(command, f"sample {run} --n 12 --block 4 --out {remote('blocks')}")
    ok(command, f"sample {a_run} --n 8 --block 4 --out x.npy")
    folder = at(remote(""))
    assert folder.read("x.npy") == Path("x.npy").read_bytes()
    assert pq.read_table(io.BytesIO(folder.read("x.parquet"))).num_rows == 8
    blocks = [f"block-00000{i}.parquet" for i in range(3)]
    assert (folder / "blocks").names() == [*blocks, "grid.png", "sampling.json"]
    code, _, err = command(f"sample {run} --n 8 --out {remote('x.npy')}")
    assert (code, err.count("\n")) == (2, 1)
    ok(command, f"short_run digits {SMALL} --updates 1 --init-from {run} --out {remote('next')}")
    assert at(remote("next")).read_json("job.json")["init_from"].startswith(str(at(run)).partition("?")[0])


@pytest.mark.slow
@pytest.mark.parametrize("remote", ["s3 with a query", "gs"], indirect=True)
def test_every_command_on_a_run_writes_beside_it(command, remote):
    images, inferred, flow = remote("images"), remote("inferred"), remote("flow")
    ok(command, f"short_run digits {SMALL} --updates 2 --out {images}")
    ok(command, f"short_run_inference digits {INFERENCE} --out {inferred}")
    ok(command, f"flow eight-gaussians --updates 2 --eval-samples 0 --out {flow}")
    labels = "--labels-per-class 2 --labelled-batch-size 20 --test-share .2 --architecture mlp"
    classes = "symbol_vector digits --learners 0 --actors 0 --updates 1 --batch-size 20 --eval-samples 0"
    ok(command, f"{classes} {labels} --out {remote('classes')}")
    lines = [
        f"reconstruct {images} --n 4 --iterations 2",
        f"interpolate {images} --pairs 2 --n 3",
        f"complete {inferred} --n 8 --multiples 1 --average 2",
        f"studies.step_size {inferred} --sizes 2 --n 4 --bound-samples 2",
        f"studies.transport {flow} --steps 40 --chains 2",
        f"studies.few_labels {remote('classes')} --updates 2",
    ]
    for line in lines:
        name, run = line.split()[0].rpartition(".")[2].replace("_", "[-_]"), at(shlex.split(line)[1])
        out = ok(command, line)
        made = [one for one in run.names() if one.replace("_", "-").startswith(name.replace("[-_]", "-"))]
        assert len(made) == 1, (line, run.names())
        assert "metrics" in (run / made[0]).read_json("result.json")
        assert str(run / made[0] / "result.json") in out
        code, _, err = command(line)
        assert code == 2
        assert "exists: results are never overwritten" in err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("remote", ["s3", "gs with a query"], indirect=True)
def test_chains_of_mixing_are_exported_into_a_store(command, remote, a_run):
    ok(command, f"evaluate {a_run} --metrics mixing --chains 4 --draws 20 --export {remote('chains.nc')}")
    assert at(remote("")).read("chains.nc").startswith(b"\x89HDF")


@pytest.mark.slow
@pytest.mark.parametrize("remote", ["s3 with a query", "gs"], indirect=True)
def test_learners_actors_observers_trials_and_bulk_sampling_on_ray(command, remote, a_run, ray_session):
    run, search = remote("run"), remote("search")
    flags = SMALL.replace("--learners 0 --actors 0", f"--learners 1 --actors 2 --observers 1 {LITTLE_RAY}")
    ok(command, f"short_run digits {flags} --updates 2 --checkpoint-every 1 --out {run}")
    assert weights(run) == weights(a_run)
    assert json.loads(at(run).read("observe.jsonl").splitlines()[-1])["update"] == 2
    assert any(name.startswith("events") for name in (at(run) / "observe").names())
    ok(command, f"sample {run} --n 8 --block 4 --actors 1 --cpus-per-actor .25 --out {remote('blocks')}")
    assert (at(remote("blocks"))).names()[:2] == ["block-000000.parquet", "block-000001.parquet"]
    line = "search short-run --preset eight-gaussians --budget 3000 --reports 1 --samples 30 --trials 2 --confirm 1"
    out = ok(command, f"{line} --seeds 1 --cpus-per-trial .25 --out {search}")
    result = at(search).read_json("result.json")
    assert result["counts"]["failed"] == 0
    assert str(at(search) / "preset.py") in out
    trial = at(search) / "trials" / result["trials"][0]["name"]
    assert any(name.startswith("events") for name in (trial / "search").names())
    ok(command, f"report {search} {shlex.quote(trial.uri)} --out {remote('page.html')}")
    ok(command, f"resume {search}")
    assert at(search).read_json("result.json") == result
    ok(command, f"sample {shlex.quote(trial.uri)} --n 4 --out x.npy")


def start(line, **environment):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    args = [sys.executable, "-m", "jobs", *shlex.split(line)]
    return subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(run, process):
    while checkpoint.newest_name(at(run) / "checkpoints") is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


LONG = f"short_run digits {SMALL} --updates 100 --checkpoint-every 4"


@pytest.fixture
def uninterrupted(train):
    return weights(train(LONG, "uninterrupted"))


@pytest.mark.slow
@pytest.mark.parametrize("remote", FOLDERS, indirect=True)
def test_a_killed_run_goes_on_to_the_same_weights(command, remote, uninterrupted):
    run = remote("run")
    process = start(f"{LONG} --out {run}")
    wait_for_checkpoint(run, process)
    process.kill()
    process.communicate()
    assert not at(run).exists("result.json")
    ok(command, f"resume {run}")
    assert weights(run) == uninterrupted


def check_fault(process):
    """A run ends by itself, in one line."""
    try:
        _, err = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 1, err
    assert "Traceback" not in err
    last = err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("error: ")
    assert "cannot be" in last


@pytest.mark.slow
def test_a_store_that_stops_answering_ends_a_run_in_one_line_and_loses_nothing(command, uninterrupted):
    port = free_port()
    run = shlex.quote(f"s3://{BUCKET}/run{query(port)}")
    with serve("s3", port) as server:
        process = start(f"{LONG} --out {run}")
        wait_for_checkpoint(run, process)
        server.send_signal(signal.SIGSTOP)
        try:
            check_fault(process)
        finally:
            server.send_signal(signal.SIGCONT)
        ok(command, f"resume {run}")
        assert weights(run) == uninterrupted


@pytest.mark.slow
def test_a_store_that_is_gone_and_comes_back_has_lost_nothing(command, uninterrupted, tmp_path):
    port = free_port()
    run = shlex.quote(f"gs://anonymous@{BUCKET}/run{query(port)}&retry_limit_seconds=2")
    with serve("gs", port, tmp_path):
        process = start(f"{LONG} --out {run}")
        wait_for_checkpoint(run, process)
    check_fault(process)
    with serve("gs", port, tmp_path):
        ok(command, f"resume {run}")
        assert weights(run) == uninterrupted


@pytest.mark.parametrize("store", SCHEMES)
@pytest.mark.parametrize("line", [f"short_run digits {SMALL} --updates 1 --out {{}}", "evaluate {}",
                                  "sample run --out {}", "evaluate run --out {}", "resume {}",
                                  "report {} --out p.html", "report run --out {}.html"])  # fmt: skip
def test_a_bucket_that_does_not_exist_is_one_line(command, store, line, a_run, request):
    request.getfixturevalue(f"{store}_server")
    code, _, err = command(line.format(f"{SCHEMES[store]}nowhere/x"))
    assert (code, err.count("\n")) == (2, 1), err
    assert "there is no bucket nowhere" in err


def test_keys_in_a_uri_are_used_and_written_nowhere(command, s3_server, tmp_path, monkeypatch):
    for name in KEYS:
        monkeypatch.setenv(name, "other")  # so that it is restored
    key, secret = "AKIAKEYOFURI", "se%2Fcret%2Bword"
    run = f"s3://{key}:{secret}@{BUCKET}/{tmp_path.name}/run"
    train, evaluate = f"short_run digits {SMALL} --updates 1 --out {run}", f"evaluate {run} --n 20 --metrics samples"
    texts = [text for line in (train, evaluate, train) for text in command(line)]
    assert texts[::3] == [0, 0, 2]
    assert (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]) == (key, "se/cret+word")
    Storage.at(str(tmp_path / "copy")).copy_from(Storage.at(f"s3://{BUCKET}/{tmp_path.name}/run"))
    contents = [path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert len(contents) > 8
    for word in (key, "cret"):
        assert word not in str(texts)
        assert not any(word.encode() in content for content in contents)


def test_two_keys_or_other_secrets_are_refused_without_showing_them(command):
    for line in ("evaluate s3://a:topsecret@x/y --out s3://b:topsecret@x/z", "evaluate abfs://:topsecret@x/y",
                 "evaluate 'abfs://x/y?client_secret=topsecret'"):  # fmt: skip
        code, out, err = command(line)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "topsecret" not in err


@pytest.mark.parametrize("name", ["two words", "50%20", "a#b?c&d", "größe/"])
def test_a_run_in_a_local_folder_of_any_name(command, name, a_run, tmp_path):
    run, quoted = tmp_path / name, shlex.quote(name)
    ok(command, f"short_run digits {SMALL} --updates 1 --out {quoted}")
    ok(command, f"resume {quoted} --updates 2")
    assert weights(quoted) == weights(a_run)
    out = ok(command, f"evaluate {quoted} --metrics samples --n 20")
    assert f"{name.rstrip('/')}/evaluate-2/result.json" in out
    assert (run / "evaluate-2" / "result.json").exists()
    uri = f"file://{tmp_path}/{name.replace('%', '%25')}"
    ok(command, f"sample {shlex.quote(uri)} --n 4 --out {shlex.quote(uri.rstrip('/') + '/x y.npy')}")
    assert len(np.load(run / "x y.npy")) == 4
    code, _, err = command(f"short_run digits {SMALL} --out {quoted}")
    assert code == 2
    assert f"continue it with --resume-if-exists, or jobs.resume {quoted}" in err
