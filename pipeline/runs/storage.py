"""A folder on any filesystem that pyarrow knows: a path, `s3://bucket/folder`, `gs://bucket/folder`.

Object stores have no folders, only names of objects, so none is ever made there.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from pyarrow import fs

from pipeline.errors import InputError, RunReadError, RunWriteError
from pipeline.filesystems import open_filesystem
from pipeline.runs import uri as uris

PART_SUFFIX = ".part"
"""Ends the name of a file that is not whole yet."""
OBJECT_STORES = ("s3", "gcs", "abfs")


@contextlib.contextmanager
def write_errors(place: object) -> Iterator[None]:
    """Turn an OSError inside the block into RunWriteError, one line that names `place`."""
    try:
        yield
    except RunWriteError:
        raise
    except OSError as e:
        raise RunWriteError(f"{place} cannot be written to: {_reason(e)}") from e


@contextlib.contextmanager
def read_errors(place: object) -> Iterator[None]:
    """Turn an OSError inside the block, unless a file does not exist, into RunReadError, which names `place`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as e:
        raise RunReadError(f"{place} cannot be read: {_reason(e)}") from e


def _reason(error: BaseException) -> str:
    """The first line of an error, without the trace that Google's client adds."""
    return str(error).splitlines()[0].partition(" error_info=")[0]


Versions: TypeAlias = dict[str, tuple[int, int]]
"""Size and time of the last change of files, by path."""


class Storage(NamedTuple):
    """A folder, by filesystem and path. Its text shows no secrets."""

    fs: fs.FileSystem
    path: str
    uri: str
    """What `at` makes it of again, in any process: an absolute path, or a URI."""

    @classmethod
    def at(cls, uri: str) -> "Storage":
        """The folder at a path or URI; it need not exist. Raises InputError for an unknown scheme."""
        if not uris.is_uri(uri):
            try:
                path = os.path.abspath(os.path.expanduser(uri))
                path.encode()
            except (OSError, UnicodeEncodeError) as e:  # there is no current folder any more, or its name is no text
                raise InputError(f"{uri!a} cannot be used from the current folder: {str(e).splitlines()[0]}") from e
            return cls(fs.LocalFileSystem(), path, path)
        uri = uris.encode(uri)
        try:
            filesystem, path = open_filesystem(uri)
        except (ValueError, OSError) as e:
            raise InputError(f"{uris.without_secrets(uri)} is not a folder that can be used: {_reason(e)}") from e
        if isinstance(filesystem, fs.LocalFileSystem):
            return cls(filesystem, path, path)
        path = re.sub("/+", "/", path).strip("/")
        if not path:
            raise InputError(f"{uris.without_secrets(uri)} names no bucket")
        return cls(filesystem, path, uri)

    def __str__(self) -> str:
        return uris.without_secrets(self.uri)

    @property
    def local(self) -> bool:
        """Whether ordinary file functions work on `path`."""
        return isinstance(self.fs, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Storage":
        """The folder that it is in."""
        path = self.path.rpartition("/")[0]
        return Storage(self.fs, path, path if self.local else uris.parent(self.uri))

    def __truediv__(self, name: str) -> "Storage":
        path = f"{self.path}/{name}"
        return Storage(self.fs, path, path if self.local else uris.join(self.uri, name))

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder `name`. Raises RunReadError."""
        with read_errors(self):
            info = self.fs.get_file_info(f"{self.path}/{name}".rstrip("/"))
        return bool(info.type != fs.FileType.NotFound)

    def check_exists(self, name: str = "") -> bool:
        """As `exists`, for a folder that a user names.

        Raises:
            InputError: the filesystem does not answer, or has no such bucket.
        """
        try:
            if self.exists(name):
                return True
            bucket = self.path.partition("/")[0]
            missing = not self.local and self.fs.get_file_info(bucket).type == fs.FileType.NotFound
        except (RunReadError, OSError) as e:
            raise InputError(f"{self} cannot be reached: {_reason(e.__cause__ or e)}") from e
        if missing:
            raise InputError(f"{self}: there is no bucket {bucket}")
        return False

    def names(self) -> list[str]:
        """Names of the files and folders in it, sorted; [] if it does not exist. Raises RunReadError."""
        with read_errors(self):
            everything = self.fs.type_name == "gcs"  # pyarrow lists only those folders there that have an object
            infos = self.fs.get_file_info(fs.FileSelector(self.path, recursive=everything, allow_not_found=True))
        return sorted({info.path.removeprefix(f"{self.path}/").partition("/")[0] for info in infos})

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError, or RunReadError where it exists."""
        with read_errors(self / name), self.fs.open_input_stream(f"{self.path}/{name}") as f:
            return bytes(f.read())

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all on a local filesystem. Raises RunWriteError."""
        target = f"{self.path}/{name}"
        with write_errors(self / name):
            if self.fs.type_name not in OBJECT_STORES:
                self.fs.create_dir(self.path, recursive=True)
            if not self.local:
                return self._stream(target, data)
            try:
                self._stream(f"{target}{PART_SUFFIX}", data)
            except OSError:
                with contextlib.suppress(OSError):  # a full disk may not even allow this
                    self.fs.delete_file(f"{target}{PART_SUFFIX}")
                raise
            self.fs.move(f"{target}{PART_SUFFIX}", target)

    def _stream(self, path: str, data: bytes) -> None:
        with self.fs.open_output_stream(path) as f:
            f.write(data)

    def read_json(self, name: str) -> Any:
        """A file's JSON."""
        return json.loads(self.read(name))

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` as indented JSON. Non-finite numbers are written as NaN and Infinity, as Python reads them."""
        self.write(name, (json.dumps(value, indent=2) + "\n").encode())

    def remove(self, name: str) -> None:
        """Remove a file. Raises RunWriteError."""
        with write_errors(self / name):
            self.fs.delete_file(f"{self.path}/{name}")

    def delete(self) -> None:
        """Remove the folder and everything in it, if it exists. Raises RunWriteError."""
        with write_errors(self), contextlib.suppress(FileNotFoundError):  # GCS misses the folder after its objects
            if self.fs.get_file_info(self.path).type != fs.FileType.NotFound:
                self.fs.delete_dir(self.path)

    def copy_from(self, other: "Storage", before: Versions | None = None) -> Versions:
        """Write all files of another folder, and of the folders in it.

        Args:
            other: the folder.
            before: what was returned last time; files that have not changed since are left out.

        Returns:
            The versions of all its files.

        Raises:
            RunReadError: it cannot be read.
            RunWriteError: this folder cannot be written to.
        """
        with read_errors(other):
            infos = other.fs.get_file_info(fs.FileSelector(other.path, recursive=True))
        versions = {info.path: (info.size, info.mtime_ns) for info in infos if info.is_file}
        for path in versions.keys() - {
            path for path, version in (before or {}).items() if versions.get(path) == version
        }:
            folder, _, name = path.removeprefix(f"{other.path}/").rpartition("/")
            (self / folder if folder else self).write(name, other.read(f"{folder}/{name}" if folder else name))
        return versions
