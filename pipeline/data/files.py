"""Finding the files of a data set: on disk, or anywhere that pyarrow or fsspec reaches."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from pipeline.errors import InputError

FileKind: TypeAlias = Literal["parquet", "pictures", "csv", "arrays"]
SplitName: TypeAlias = Literal["train", "test", "validation", "all"]
"""Files of a folder by the split that their names say; all: whatever they say."""

SUFFIXES: dict[FileKind, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "pictures": (
        *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"),
        *(".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".jp2", ".avif"),
    ),
    "csv": (".csv", ".tsv"),
    "arrays": (".npz", ".npy"),
}
"""By kind, in any case. A folder is read as the first kind that it has; arrays are single files."""

PYARROW_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Filesystems of pyarrow's own; fsspec has the others."""
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
"""What names of files and folders call a split."""


class File(NamedTuple):
    """A file, and what changes whenever its content does."""

    path: str
    stamp: str


class Files(NamedTuple):
    """The files of a data set."""

    fs: Any
    """pyarrow's filesystem."""
    root: str
    """The folder that they are in."""
    kind: FileKind
    files: list[File]
    """In the order of their names."""
    notes: list[str]
    """What was left out, a sentence each."""
    in_splits: bool = False
    """Whether the folders below `root` are splits."""

    def name(self, path: str) -> str:
        """A file's name within the folder."""
        return os.path.relpath(path, self.root)


@contextmanager
def one_line(what: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn an exception of some kinds inside the block into InputError: `what`, and the first line of its reason."""
    try:
        yield
    except InputError:
        raise
    except kinds as e:
        raise InputError(f"{what}: {first_line(e)}") from e


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def read_file(files: Files, path: str) -> bytes:
    """The bytes of a file. Raises what its filesystem raises."""
    with files.fs.open_input_file(path) as file:
        return bytes(file.read())


def is_remote(source: str) -> bool:
    """Whether a source is a URI."""
    return "://" in source


def find_files(source: str, split: SplitName) -> Files:
    """The files of a path or URI.

    Args:
        source: a file, or a folder. Hidden files, and names that begin with `_`, are left out.
        split: which of a folder's files to read, where their names say `train`, `test` or `validation`.

    Raises:
        InputError: there are no such files, or they cannot be listed.
    """
    if is_remote(source):
        with one_line("cannot be reached", Exception):  # whatever the client of a store raises
            fs, root, found = _list_remote(source)
    else:
        from pyarrow import fs as pyarrow_fs

        with one_line("cannot be listed", OSError, RecursionError):
            root = os.path.abspath(os.path.expanduser(source))
            fs, found = pyarrow_fs.LocalFileSystem(), _list_local(root)
    if len(found) == 1 and found[0].path == root:
        kind = kind_of(root)
        if kind is None:
            raise InputError(f"a file must be {_words(suffix for some in SUFFIXES.values() for suffix in some)}")
        return Files(fs, os.path.dirname(root), kind, found, [])
    return _choose(fs, root, found, split)


def kind_of(path: str) -> FileKind | None:
    """The kind of a file by its name; None where it is no data."""
    name = path.lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if name.endswith(suffixes)), None)


def _list_local(root: str) -> list[File]:
    if os.path.isfile(root):
        return [_local_file(root)]
    if not os.path.isdir(root):
        raise InputError("is neither a file nor a folder")
    return sorted(_walk(root, frozenset()))


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[File]:
    """The files that may be data in a folder and those below it; a link to a folder above is not followed."""
    status = os.stat(folder)
    own = status.st_dev, status.st_ino
    if own in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                yield from _walk(entry.path, above | {own})
            elif kind_of(entry.name):
                yield _local_file(entry.path)


def _local_file(path: str) -> File:
    try:
        status = os.stat(path)
    except OSError as e:
        why = "is a link to nothing" if os.path.islink(path) else f"cannot be read: {e.strerror}"
        raise InputError(f"{path} {why}") from e
    return File(path, f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns}")


def _list_remote(source: str) -> tuple[Any, str, list[File]]:
    from pyarrow.fs import FileSelector, FileType, FSSpecHandler, PyFileSystem

    from pipeline.filesystems import open_filesystem

    if source.partition("://")[0] in PYARROW_SCHEMES:
        fs, root = open_filesystem(source)
    else:
        from fsspec.core import url_to_fs

        store, root = url_to_fs(source)
        fs = PyFileSystem(FSSpecHandler(store))
    root = root.rstrip("/")
    about = fs.get_file_info(root)
    if about.type == FileType.NotFound:
        raise InputError("there is no such file or folder")
    infos = [about] if about.type == FileType.File else fs.get_file_info(FileSelector(root, recursive=True))
    chosen = [info for info in infos if info.type == FileType.File and _is_visible(info.path, root)]
    stamp = fs.handler.fs.ukey if isinstance(fs, PyFileSystem) else None
    return fs, root, sorted(File(info.path, _remote_stamp(source, info, stamp)) for info in chosen)


def _remote_stamp(source: str, info: Any, stamp: Callable[[str], str] | None) -> str:
    scheme = source.partition("://")[0]
    return f"{scheme} {info.path} {info.size} {stamp(info.path) if stamp else info.mtime_ns}"


def _is_visible(path: str, root: str) -> bool:
    if path == root:
        return True
    parts = path.removeprefix(root).strip("/").split("/")
    return not any(part.startswith((".", "_")) for part in parts) and kind_of(path) is not None


def _choose(fs: Any, root: str, found: list[File], split: SplitName) -> Files:
    """The files of a folder that are read, and what is not."""
    by_kind: dict[FileKind, list[File]] = {kind: [] for kind in get_args(FileKind)}
    for file in found:
        by_kind[kind_of(file.path) or "arrays"].append(file)
    kind = next((kind for kind, some in by_kind.items() if some), None)
    if kind is None:
        raise InputError("it holds no .parquet files, pictures or .csv files")
    if kind == "arrays":
        raise InputError(f"it holds no .parquet files, pictures or .csv files, but {kind}: name one of its files")
    notes = [
        f"not read: {count(len(some), 'file')} ({os.path.relpath(some[0].path, root)}{', ...' if some[1:] else ''})"
        for other, some in by_kind.items()
        if some and other != kind
    ]
    splits = [split_of(os.path.relpath(file.path, root), kind) for file in by_kind[kind]]
    if kind == "pictures" and None in splits:
        splits = [None] * len(splits)  # the folders are classes, one of which may be called `train`
    files, left_out = _of_split(by_kind[kind], splits, split)
    return Files(fs, root, kind, files, notes + left_out, any(splits))


def _of_split(files: list[File], splits: list[str | None], split: SplitName) -> tuple[list[File], list[str]]:
    """The files of a split; where some names say a split, those that say none are of `train`."""
    names = [name for name in get_args(SplitName) if name in {name or "train" for name in splits}]
    if not any(splits):
        if split in ("test", "validation"):
            raise InputError("the names of its files say no split", "split", split)
        return files, []
    if split == "all":
        return files, [f"splits read as one: {', '.join(names)}"] if len(names) > 1 else []
    chosen = [file for file, name in zip(files, splits, strict=True) if (name or "train") == split]
    if not chosen:
        raise InputError(f"its files are of {_words(names)} by their names", "split", split)
    notes = [f"read: {split}; not read: {_words(name for name in names if name != split)}"] if len(names) > 1 else []
    return chosen, notes


def split_of(name: str, kind: FileKind) -> str | None:
    """The split that the name of a file within its folder says, if any.

    >>> split_of("data/test-00000-of-00001.parquet", "parquet"), split_of("latest.csv", "csv")
    ('test', None)
    """
    *folders, last = PurePosixPath(name.lower()).parts
    if kind == "pictures":
        folders, last = folders[:1], ""
    words = [folder.removeprefix("split=") for folder in folders] + re.split(r"[^a-z]+", last.partition(".")[0])
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def count(n: int, what: str) -> str:
    """A number of things, in words."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _words(words: Any) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
