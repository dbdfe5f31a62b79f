"""A folder on any filesystem that pyarrow knows: a path, `s3://bucket/folder`, `gs://bucket/folder`."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from pyarrow import fs

from pipeline.errors import InputError, RunWriteError

PART_SUFFIX = ".part"
"""Ends the name of a file that is not whole yet."""


@contextlib.contextmanager
def write_errors(path: str) -> Iterator[None]:
    """Turn an OSError inside the block into RunWriteError, one line that names `path`."""
    try:
        yield
    except RunWriteError:
        raise
    except OSError as e:
        raise RunWriteError(f"{path} cannot be written to: {str(e).splitlines()[0]}") from e


class Storage(NamedTuple):
    """A folder, by filesystem and path."""

    fs: fs.FileSystem
    path: str

    @classmethod
    def at(cls, uri: str) -> "Storage":
        """The folder at a path or URI; it need not exist. Raises InputError for an unknown scheme."""
        if "://" not in uri:
            try:
                path = os.path.abspath(os.path.expanduser(uri))
                path.encode()
            except (OSError, UnicodeEncodeError) as e:  # there is no current folder any more, or its name is no text
                raise InputError(f"{uri!a} cannot be used from the current folder: {str(e).splitlines()[0]}") from e
            return cls(fs.LocalFileSystem(), path)
        try:
            return cls(*fs.FileSystem.from_uri(uri))
        except (ValueError, OSError) as e:
            raise InputError(f"{uri} is not a folder that can be used: {str(e).splitlines()[0]}") from e

    @property
    def local(self) -> bool:
        """Whether ordinary file functions work on `path`."""
        return isinstance(self.fs, fs.LocalFileSystem)

    def __truediv__(self, name: str) -> "Storage":
        return Storage(self.fs, f"{self.path}/{name}")

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder `name`."""
        info = self.fs.get_file_info(f"{self.path}/{name}".rstrip("/"))
        return bool(info.type != fs.FileType.NotFound)

    def check_exists(self, name: str = "") -> bool:
        """As `exists`, for a folder that a user names. Raises InputError where the filesystem does not answer."""
        try:
            return self.exists(name)
        except OSError as e:
            raise InputError(f"{self.path} cannot be reached: {str(e).splitlines()[0]}") from e

    def names(self) -> list[str]:
        """Names of the files and folders in it, sorted; [] if it does not exist."""
        infos = self.fs.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in infos)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        with self.fs.open_input_stream(f"{self.path}/{name}") as f:
            return bytes(f.read())

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all on a local filesystem. Raises RunWriteError."""
        target = f"{self.path}/{name}"
        with write_errors(target):
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
        with write_errors(f"{self.path}/{name}"):
            self.fs.delete_file(f"{self.path}/{name}")

    def delete(self) -> None:
        """Remove the folder and everything in it. Raises RunWriteError."""
        with write_errors(self.path):
            self.fs.delete_dir(self.path)
