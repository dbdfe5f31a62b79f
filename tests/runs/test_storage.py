"""A run folder that is no local path: here a filesystem whose files happen to be seen from outside."""

import json
from dataclasses import replace

import pytest
from pyarrow import fs
from running import newest, run

from pipeline.errors import InputError
from pipeline.runs.job import override
from pipeline.runs.storage import Storage


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    root = tmp_path / "bucket"
    root.mkdir()
    remote = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())

    class Known:
        from_uri = staticmethod(lambda uri: (remote, uri.removeprefix("s3://")))

    monkeypatch.setattr("pipeline.runs.storage.fs", type("fs", (), {**vars(fs), "FileSystem": Known}))
    return root


def test_a_run_on_object_storage_is_the_same_run(bucket, small):
    whole = run(override(small, eval_samples=20))
    job = override(small, eval_samples=20, out="s3://runs/one")
    run(replace(job, updates=3))
    resumed = run(job)
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    folder = bucket / "runs" / "one"
    assert newest(job).path == "runs/one/checkpoints/update-00000006"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == list(range(6))
    assert (folder / "samples" / "final.png").exists()
    assert list(folder.glob("events.out.tfevents.*"))
    assert json.loads((folder / "result.json").read_text()) == resumed


def test_files_are_whole_and_folders_need_not_exist(tmp_path):
    storage = Storage.at(str(tmp_path / "a" / "b"))
    assert not storage.exists()
    assert storage.names() == []
    storage.write("x", b"123")
    storage.write("x", b"45")
    assert storage.read("x") == b"45"
    assert storage.names() == ["x"]
    storage.delete()
    assert not storage.exists()


def test_an_unknown_scheme_is_refused():
    with pytest.raises(InputError, match="not a folder that can be used"):
        Storage.at("nowhere://x")
