"""A cache that is damaged, or cannot be written to, changes no number."""

import os

import pytest

from jobs.cli.command import run_command
from pipeline.data.dataset import load_data
from pipeline.errors import InputError
from pipeline.runs.storage import Storage


@pytest.mark.parametrize("size", [0, 100, -100])
def test_a_file_that_was_cut_short_is_written_again(tmp_path, monkeypatch, capsys, size):
    monkeypatch.setenv("EBM_CACHE", str(tmp_path))
    whole = load_data("digits").fingerprint
    (file,) = (tmp_path / "data").glob("*.arrow")
    content = file.read_bytes()
    file.write_bytes(content[:size])
    assert load_data("digits").fingerprint == whole
    assert "is damaged, and is written again" in capsys.readouterr().err
    assert file.read_bytes() == content


def test_where_nothing_can_be_written_a_temporary_folder_serves(tmp_path, monkeypatch, capsys):
    whole = load_data("digits").fingerprint
    (tmp_path / "file").write_text("where a folder is needed")
    monkeypatch.setenv("EBM_CACHE", str(tmp_path / "file" / "cache"))
    assert load_data("digits").fingerprint == whole
    assert "serves this command instead" in capsys.readouterr().err
    assert load_data("digits").fingerprint == whole  # this process, and those that it starts, use the folder
    assert os.environ["EBM_CACHE"] != str(tmp_path / "file" / "cache")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["n" * 300, "\udcff"])
def test_a_name_that_no_file_can_have_is_one_line(name, capsys):
    with pytest.raises((InputError, OSError)):
        Storage.at(name).check_exists()
    with pytest.raises(SystemExit) as end:
        run_command(lambda args: Storage.at(args[0]).check_exists() and None, [name])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
