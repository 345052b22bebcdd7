"""Webdataset tar files: a record is the consecutive members of one key.

A member's key is its path up to the first dot of its last part, its column what follows that dot.
Each column holds bytes. The key is no part of the record: samples that differ in it alone are the
same record. Links, devices, paths with `..` and a key or a column twice are refused.
"""

import tarfile
from collections.abc import Iterator
from typing import IO

from laminator.errors import MalformedError, shown
from laminator.records.schema import MAX_VALUE_BYTES, Field, Schema, make_schema

MAX_RECORDS = 10_000_000


def infer_tar(file: IO[bytes]) -> Schema:
    """Return the schema of all columns that occur. Raises MalformedError."""
    names = {name for record in _records(file, contents=False) for name in record}
    return make_schema([Field(name, "bytes") for name in sorted(names)])


def read_tar(file: IO[bytes]) -> Iterator[dict[str, object]]:
    """Yield each key's contents by column. Raises MalformedError."""
    return _records(file, contents=True)


def _records(file: IO[bytes], *, contents: bool) -> Iterator[dict[str, object]]:
    seen: set[str] = set()
    current, record = "", dict[str, object]()
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    continue
                key, column = _named(member)
                if key != current:
                    if record:
                        yield record
                    current, record = key, {}
                    _note(seen, key)
                if column in record:
                    raise MalformedError("tar.twice", f"{shown(member.name)} is there twice")
                source = archive.extractfile(member) if contents else None
                record[column] = b"" if source is None else source.read()
        if record:
            yield record
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise MalformedError("tar.syntax", f"not a readable tar file: {error}") from error


def _note(seen: set[str], key: str) -> None:
    if key in seen or len(seen) == MAX_RECORDS:
        raise MalformedError("tar.key", f"the key {shown(key)} comes back, or there are too many")
    seen.add(key)


def _named(member: tarfile.TarInfo) -> tuple[str, str]:
    folder, slash, last = member.name.rpartition("/")
    stem, _, column = last.partition(".")
    if not member.isreg() or member.issparse() or member.size > MAX_VALUE_BYTES:
        message = f"{shown(member.name)} is no plain file, or beyond {MAX_VALUE_BYTES} bytes"
        raise MalformedError("tar.member", message)
    strange = member.name.startswith("/") or ".." in member.name.split("/")
    if strange or not stem or not column:
        raise MalformedError("tar.name", f"{shown(member.name)}: expected key.column")
    return folder + slash + stem, column
