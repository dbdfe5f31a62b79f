"""Tables: the rows of Parquet and CSV files, through pyarrow's dataset."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from numpy import ndarray

from pipeline.data.arrow_table import ROWS_PER_PIECE
from pipeline.data.files import Files, count, one_line
from pipeline.data.labels import Label, encode_labels, find_classes, word_type
from pipeline.errors import InputError

FORMATS = {"parquet": "Parquet", "csv": "CSV"}
"""What kinds of files are called."""
READ_BYTES = 1 << 20
"""Of a column that are read from a Parquet file at once."""
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL")
"""What a cell of a CSV file holds where a number is missing."""


class Rows(NamedTuple):
    """Some rows of a file."""

    columns: dict[str, Any]
    """pyarrow's arrays, by name."""
    label: ndarray | None
    """(n,) numbers of classes."""
    file: str
    """The file's path."""
    name: str
    """The file's name within its folder."""
    first: int
    """The number of the first row in the file."""

    def place(self, i: int) -> str:
        """Where row i is, for a message."""
        return f"{self.name}, row {self.first + i}"


class FileTable(NamedTuple):
    """Files of rows with the same columns."""

    files: Files
    fragments: list[Any]
    """pyarrow's, a file each."""
    schema: Any
    file_counts: dict[str, int]
    """In how many of the files each column is."""
    partition_columns: Collection[str] = ()
    """Columns that stand in the names of folders."""
    label_column: str = ""
    """Empty: no labels."""
    classes: Sequence[Label] = ()

    @property
    def size(self) -> int:
        """Number of rows; 0 where only reading the files would tell."""
        return sum(f.count_rows() for f in self.fragments) if self.files.kind == "parquet" else 0

    def rows(self, columns: Sequence[str], batch_size: int = ROWS_PER_PIECE) -> Iterator[Rows]:
        """The rows in the order of the files, some at a time.

        Args:
            columns: the columns wanted.
            batch_size: rows at a time.

        Raises:
            InputError: a file cannot be read, or has no such column.
        """
        for name in columns:
            if self.file_counts[name] < len(self.fragments):
                lacking = next(f.path for f in self.fragments if name not in f.physical_schema.names)
                raise InputError(f"{self.files.name(lacking)} has no column {name}, other files have one")
        wanted = list(dict.fromkeys([*columns, *([self.label_column] if self.label_column else [])]))
        for fragment in self.fragments:
            name, first = self.files.name(fragment.path), 0
            for found in self._batches(fragment, wanted, batch_size, name):
                label = encode_labels(found[self.label_column], self.classes) if self.label_column else None
                if n := len(found[wanted[0]]):
                    yield Rows(found, label, fragment.path, name, first)
                first += n

    def _batches(self, fragment: Any, wanted: list[str], batch_size: int, name: str) -> Iterator[dict[str, Any]]:
        with one_line(f"{name} cannot be read", pa.ArrowException, OSError, ValueError):
            if self.files.kind == "parquet":
                yield from self._parquet_batches(fragment, wanted, batch_size)
            else:
                for batch in fragment.to_batches(schema=self.schema, columns=wanted, batch_size=batch_size):
                    yield dict(zip(wanted, batch.columns, strict=True))

    def _parquet_batches(self, fragment: Any, wanted: list[str], batch_size: int) -> Iterator[dict[str, Any]]:
        """As the fragment's own batches, but reading a part of a row group at a time, since images may be large."""
        from pyarrow import parquet as pq
        from pyarrow.dataset import get_partition_keys

        constants = get_partition_keys(fragment.partition_expression)
        own = [name for name in wanted if name in fragment.physical_schema.names]
        types = {name: self.schema.field(name).type for name in wanted}
        with self.files.fs.open_input_file(fragment.path) as file:
            reader = pq.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False)
            if own:
                batches = reader.iter_batches(batch_size, columns=own, use_threads=False)
            else:
                batches = iter([pa.RecordBatch.from_pydict({"": pa.nulls(reader.metadata.num_rows)})])
            for batch in batches:
                same = {name: pa.repeat(pa.scalar(constants.get(name), types[name]), len(batch)) for name in wanted}
                yield same | {name: batch.column(name).cast(types[name]) for name in own}


def open_table(files: Files, label_column: str, words: Collection[str], content: Collection[str]) -> FileTable:
    """The rows of files, and the classes of their labels.

    Args:
        files: Parquet or CSV.
        label_column: the column of labels, where there is one; empty: none.
        words: columns that hold words where a file does not say so itself (CSV).
        content: columns whose types must agree in all files.

    Raises:
        InputError: a file cannot be read, or columns differ between files.
    """
    data = _open_dataset(files)
    fragments, partitions = list(data.get_fragments()), data.partitioning.schema
    schemas = [_file_schema(files, fragment) for fragment in fragments]
    schema = _unify(files, schemas, {label_column, *words, *content})
    if files.kind == "csv":
        schema = pa.schema([(name, pa.string() if name in {label_column, *words} else pa.float64())
                            for name in schema.names])  # fmt: skip
    own = [field for field in partitions if field.name not in schema.names]
    counts = {name: sum(name in s.names for s in schemas) for name in schema.names}
    counts |= {field.name: len(schemas) for field in own}
    table = FileTable(files, fragments, pa.schema([*schema, *own]), counts, [field.name for field in own])
    return _label(table, label_column) if label_column in counts else table


def _open_dataset(files: Files) -> Any:
    from pyarrow import csv
    from pyarrow import dataset as ds

    paths = [file.path for file in files.files]
    kind: Any = "parquet"
    if files.kind == "csv":
        delimiter = "\t" if paths[0].lower().endswith(".tsv") else ","
        convert = csv.ConvertOptions(null_values=list(MISSING), strings_can_be_null=False)
        kind = ds.CsvFileFormat(
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            ds.CsvFragmentScanOptions(convert),
        )
    names = files.name(paths[0]) if len(paths) == 1 else f"{files.name(paths[0])} and others"
    with one_line(f"{names} cannot be read as {FORMATS[files.kind]}", pa.ArrowException, OSError, ValueError):
        return ds.dataset(
            paths, format=kind, filesystem=files.fs, partitioning="hive", partition_base_dir=files.root
        )  # fmt: skip


def _file_schema(files: Files, fragment: Any) -> Any:
    name = files.name(fragment.path)
    with one_line(f"{name} cannot be read as {FORMATS[files.kind]}", pa.ArrowException, OSError, ValueError):
        schema = fragment.physical_schema.remove_metadata()
        names = schema.names  # which may be no UTF-8
    if twice := next((column for column in names if names.count(column) > 1), None):
        raise InputError(f"{name} has two columns called {twice}")
    if files.kind == "csv" and all(_is_number(column) for column in names):
        raise InputError(f"the first line of {name} holds no names of columns, but {', '.join(names[:3])}")
    return schema


def _is_number(word: str) -> bool:
    try:
        return float(word) is not None
    except ValueError:
        return False


def _unify(files: Files, schemas: Sequence[Any], needed: Collection[str]) -> Any:
    """The columns of all files. Those that are of several types are left out, or an error where they are needed."""
    fields = []
    for name in dict.fromkeys(name for schema in schemas for name in schema.names):
        types = {
            _plain(schema.field(name).type): files.name(file.path)
            for schema, file in zip(schemas, files.files, strict=True)
            if name in schema.names
        }
        try:
            some = [pa.schema([(name, kind)]) for kind in types]
            fields.append(pa.unify_schemas(some, promote_options="permissive").field(0))
        except (pa.ArrowException, TypeError) as e:
            if name in needed:
                found = ", ".join(f"{kind} in {file}" for kind, file in types.items())
                raise InputError(f"column {name} is {found}") from e
    return pa.schema(fields)


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _label(table: FileTable, column: str) -> FileTable:
    """The table with its classes, which a first pass over the labels finds."""
    if table.files.kind == "csv":
        table = table._replace(schema=_with_type(table.schema, column, _csv_label_type(table, column)))
    if missing := len(table.fragments) - table.file_counts[column]:
        note = f"{count(missing, 'file')} of {len(table.fragments)} have no column {column}: their items are unlabelled"
        table.files.notes.append(note)
    return table._replace(label_column=column, classes=_classes(table, column))


def _classes(table: FileTable, column: str) -> list[Label]:
    everywhere = table._replace(file_counts={column: len(table.fragments)})  # null where a file has no such column
    try:
        return find_classes(rows.columns[column] for rows in everywhere.rows([column]))
    except InputError as e:
        raise InputError(f"column {column}: {e.why}") from e


def _csv_label_type(table: FileTable, column: str) -> Any:
    return word_type(str(value) for value in _classes(table, column) if value not in MISSING)


def _with_type(schema: Any, column: str, kind: Any) -> Any:
    return schema.set(schema.get_field_index(column), pa.field(column, kind))
