"""Storage: the same laws on a disk and in object stores, whatever the names, and one line where a store fails."""

import json
from dataclasses import replace

import pytest
from running import newest, run
from store_servers import BUCKET, PORTS, SCHEMES, free_port, query

from pipeline.errors import InputError, RunReadError, RunWriteError
from pipeline.runs import checkpoint
from pipeline.runs.job import override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

PLACES = ("disk", "s3", "s3 with a query", "gs", "gs with a query")
NAMES = ("plain", "two words", "50%", "a%20b", "a#b", "a?b=c&d", "a+b", "größe", "a:b", "x=1")


@pytest.fixture
def place(request, tmp_path):
    """A new folder, by the kind of its place."""
    store, _, with_query = request.param.partition(" ")
    if store == "disk":
        return str(tmp_path / "folder")
    request.getfixturevalue(f"{store}_server")
    if with_query:  # it must do without the environment
        request.getfixturevalue("monkeypatch").delenv({"s3": "AWS_ENDPOINT_URL", "gs": "STORAGE_EMULATOR_HOST"}[store])
    return f"{SCHEMES[store]}{BUCKET}/{tmp_path.name}{query(PORTS[store]) if with_query else ''}"


everywhere = pytest.mark.parametrize("place", PLACES, indirect=True)


@everywhere
def test_a_folder_holds_what_was_written(place):
    folder = Storage.at(place)
    assert not folder.check_exists()
    assert folder.names() == []
    big = bytes(range(256)) * 50_000  # more than one part of an upload
    folder.write("big", big)
    folder.write("big", big[1:])
    folder.write("empty", b"")
    assert folder.read("big") == big[1:]
    assert folder.read("empty") == b""
    assert folder.exists("big")
    assert not folder.exists("small")
    with pytest.raises(FileNotFoundError):
        folder.read("small")
    folder.remove("big")
    assert folder.names() == ["empty"]


@everywhere
def test_names_are_joined_before_the_query_and_lead_back(place):
    folder = Storage.at(place)
    for name in NAMES:
        inner = folder / "inner" / name
        assert (inner.name, inner.parent) == (name, folder / "inner")
        inner.write(f"{name}.txt", name.encode())
        assert Storage.at(inner.uri).read(f"{name}.txt") == name.encode()
    assert folder.names() == ["inner"]
    assert (folder / "inner").names() == sorted(NAMES)


@everywhere
def test_a_folder_that_is_deleted_is_gone_and_its_neighbours_stay(place):
    folder = Storage.at(place)
    for name in ("a", "a-b"):
        (folder / name / "deep").write("file", b"1")
        (folder / name).write("file", b"2")
    (folder / "a").delete()
    (folder / "a").delete()
    assert folder.names() == ["a-b"]
    assert not folder.exists("a")
    assert (folder / "a-b" / "deep").read("file") == b"1"


@everywhere
def test_a_copy_has_the_same_files(place, tmp_path):
    (original := Storage.at(str(tmp_path / "original"))).write("x", b"1")
    (original / "a b" / "c").write("y#", b"2")
    (folder := Storage.at(place)).copy_from(original)
    (back := Storage.at(str(tmp_path / "back"))).copy_from(folder)
    assert back.names() == ["a b", "x"]
    assert (back.read("x"), (back / "a b" / "c").read("y#")) == (b"1", b"2")


def test_a_copy_that_is_repeated_writes_what_has_changed(tmp_path):
    original, copy = (Storage.at(str(tmp_path / name)) for name in ("original", "copy"))
    for name in ("a", "b"):
        (original / "inner").write(name, b"1")
    versions = copy.copy_from(original)
    (copy / "inner").write("a", b"as it was")
    (original / "inner").write("b", b"12")
    copy.copy_from(original, versions)
    assert [(copy / "inner").read(name) for name in ("a", "b")] == [b"as it was", b"12"]


@everywhere
def test_slashes_do_not_matter(place):
    start, mark, rest = place.partition("?")
    Storage.at(place).write("x", b"1")
    for path in (f"{start}/", f"{start}//"):
        assert Storage.at(path + mark + rest).read("x") == b"1"


@pytest.mark.parametrize("place", ["s3 with a query", "gs"], indirect=True)
def test_a_run_in_a_store_is_the_run_of_a_folder(place, small, tmp_path):
    job = override(small, out=place)
    run(replace(job, updates=3))
    (Storage.at(place) / "checkpoints" / "update-00000004").write("state.json", b"{}")  # torn
    resumed = run(job)
    whole = run(override(small, out=str(tmp_path / "whole")))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    folder = Storage.at(place)
    assert newest(job) == folder / "checkpoints" / "update-00000006"
    assert len(checkpoint.whole_names(folder / "checkpoints")) == job.logging.keep_checkpoints
    rows = [json.loads(line) for line in folder.read("metrics.jsonl").splitlines()]
    assert [row["update"] for row in rows] == list(range(6))
    assert (folder / "samples").names() == [f"update-0000000{n}.png" for n in (2, 3, 4, 6)]
    assert any(name.startswith("events.out.tfevents.") for name in folder.names())
    assert folder.read_json("result.json") == resumed


@pytest.mark.parametrize("name", [*NAMES, "trailing/"])
def test_local_folders_may_have_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Storage.at(f"~/{name}").write("x", b"1")
    assert (tmp_path / name / "x").read_bytes() == b"1"
    for same in (name, f"./{name}", f"{tmp_path}/{name}", f"file://{tmp_path}/{name.replace('%', '%25')}"):
        assert Storage.at(same).uri == str(tmp_path / name)
        assert Storage.at(same).read("x") == b"1"


@pytest.mark.parametrize("uri", ["nowhere://x", "s3://", "s3:///x", "gs://", "s3://x?nonsense=1", "file://host/x"])
def test_what_is_no_place_is_refused(uri):
    with pytest.raises(InputError, match=r"not a folder that can be used|names no bucket"):
        Storage.at(uri)


@pytest.mark.parametrize("store", SCHEMES)
def test_a_missing_bucket_is_refused(store, request):
    request.getfixturevalue(f"{store}_server")
    with pytest.raises(InputError, match="there is no bucket nowhere"):
        Storage.at(f"{SCHEMES[store]}nowhere/run").check_exists()


@pytest.mark.slow
@pytest.mark.parametrize("store", SCHEMES)
def test_a_store_that_does_not_answer_is_one_line_and_never_taken_for_an_empty_one(store):
    retries = "&retry_limit_seconds=1" if store == "gs" else ""
    folder = Storage.at(f"{SCHEMES[store]}{BUCKET}/run{query(free_port())}{retries}")
    with pytest.raises(InputError, match="cannot be reached"):
        folder.check_exists()
    for call in (folder.exists, folder.names, lambda: folder.read("x"), lambda: checkpoint.newest_name(folder)):
        with pytest.raises(RunReadError, match="cannot be read"):
            call()
    with pytest.raises(RunWriteError, match="cannot be written to"):
        folder.write("x", b"1")


def test_secrets_of_a_uri_are_never_shown(small):
    job = override(small, out="s3://name:pass%2Fword@runs/x", init_from="abfs://:word@account/x?client_secret=abc&a=b")
    text = json.dumps(to_json(job))
    for secret in ("name", "pass", "word", "abc"):
        assert secret not in text.replace('"name"', "")
