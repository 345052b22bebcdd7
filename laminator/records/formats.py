"""Which format a data set has, what a record of it is, and how its records are read.

A data set is a file, a folder of images by class, or a folder of shards: files of one format, and
nothing else. Its records are those of all shards.
"""

from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from laminator.errors import MalformedError, shown
from laminator.measure.lthash import Multiset, hash_records
from laminator.records.arrow import infer_arrow, read_arrow
from laminator.records.columnar import array_records, infer_arrays, load_arrays
from laminator.records.csv_lines import infer_csv, read_csv
from laminator.records.json_lines import infer_json_lines, read_json_lines
from laminator.records.schema import Schema, canonical, join
from laminator.records.webdataset import infer_tar, read_tar

FORMS = MappingProxyType(
    {
        ".csv": "csv",
        ".jsonl": "json-lines",
        ".ndjson": "json-lines",
        ".npy": "npy",
        ".npz": "npz",
        ".safetensors": "safetensors",
        ".tar": "webdataset",
        ".parquet": "parquet",
        ".arrow": "arrow",
        ".arrows": "arrow",
        ".feather": "arrow",
    }
)
MEANING = MappingProxyType(
    {
        "csv": "one row below the header",
        "json-lines": "one line",
        "npy": "one entry of the array's first dimension",
        "npz": "one position of all arrays' first dimension",
        "safetensors": "one position of all tensors' first dimension",
        "images": "one image file with its folder's name",
        "webdataset": "the files of one key, without the key",
        "parquet": "one row",
        "arrow": "one row",
    }
)
UNMEASURED = frozenset({"parquet", "arrow"})
"""Formats whose reader is no part of the attester's measured code."""

MAX_SHARDS = 100_000


class Source(NamedTuple):
    """A data set's files, in order, and their format."""

    form: str
    files: tuple[Path, ...]


def find_source(path: Path, name: str) -> Source:
    """Return what lies at `path`; `name` is the file's real name. Raises MalformedError."""
    if not path.is_dir():
        return Source(_form(name), (path,))
    entries = sorted(path.iterdir())
    if entries and all(entry.is_dir() for entry in entries):
        return Source("images", (path,))
    forms = {_form(entry.name) for entry in entries if entry.is_file() and not entry.is_symlink()}
    plain = all(entry.is_file() and not entry.is_symlink() for entry in entries)
    if len(forms) != 1 or not plain or len(entries) > MAX_SHARDS:
        message = f"{shown(name)}: expected shards of one format, or folders of images"
        raise MalformedError("records.folder", message)
    return Source(forms.pop(), tuple(entries))


def infer_schema(source: Source) -> Schema:
    """Return the schema of all shards together. Raises MalformedError, UsageError."""
    return reduce(join, (_infer(file, source.form) for file in source.files))


def canonical_records(source: Source, schema: Schema) -> Iterator[bytes]:
    """Return every record's canonical bytes. Raises MalformedError, UsageError."""
    return map(canonical(schema), read_records(source, schema))


def read_records(source: Source, schema: Schema) -> Iterator[dict[str, object]]:
    """Yield every record's values by name. Raises MalformedError, UsageError."""
    for file in source.files:
        yield from _read(file, source.form, schema)


def hash_source(source: Source, schema: Schema) -> Multiset:
    """Return the multiset digest of all records. Raises MalformedError, UsageError."""
    return hash_records(canonical_records(source, schema), schema.digest)


def _form(name: str) -> str:
    form = FORMS.get(Path(name).suffix.lower())
    if form is None:
        message = f"{shown(name)}: records are read from {', '.join(FORMS)} and image folders"
        raise MalformedError("records.format", message)
    return form


def _infer(path: Path, form: str) -> Schema:
    if form in UNMEASURED:
        return infer_arrow(path, form)
    if form in _STREAMS:
        with path.open("rb") as file:
            return _STREAMS[form](file)
    return infer_arrays(load_arrays(path, form))


def _read(path: Path, form: str, schema: Schema) -> Iterator[dict[str, object]]:
    if form in UNMEASURED:
        yield from read_arrow(path, form)
    elif form in _STREAMS:
        with path.open("rb") as file:
            if form == "csv":
                yield from read_csv(file, schema)
            else:
                yield from (read_tar if form == "webdataset" else read_json_lines)(file)
    else:
        yield from array_records(load_arrays(path, form), schema)


_STREAMS = {"csv": infer_csv, "json-lines": infer_json_lines, "webdataset": infer_tar}
