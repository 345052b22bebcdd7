"""A wheel's RECORD, cross-checked: it names every file, with the hash that the file has.

Source: "Recording installed projects" and "Binary distribution format" of the Python packaging
specifications (PEP 376, PEP 427).
"""

import base64
import binascii
import csv
from collections.abc import Mapping
from typing import NamedTuple

from laminator.errors import MalformedError, shown
from laminator.references.locks import SIZES

MAX_RECORD = 32 << 20


class Recorded(NamedTuple):
    """What RECORD says of a file: its hash and its size in bytes, each None where it says none."""

    algorithm: str | None
    digest: bytes | None
    size: int | None


def parse_record(data: bytes) -> dict[str, Recorded]:
    """Parse RECORD into its rows by path. Raises MalformedError `record.*`."""
    rows: dict[str, Recorded] = {}
    try:
        for row in csv.reader(data.decode().splitlines(), strict=True):
            if row:
                path, recorded = _row(row)
                if path in rows:
                    raise MalformedError("record.duplicate", f"{shown(path)} stands there twice")
                rows[path] = recorded
    except (csv.Error, UnicodeDecodeError) as error:
        raise MalformedError("record.syntax", "RECORD is no CSV in UTF-8") from error
    return rows


def check_covers(
    rows: Mapping[str, Recorded], files: Mapping[str, int], unhashed: set[str]
) -> None:
    """Check that RECORD names exactly `files` (path to size), all but `unhashed` with a hash.

    Raises MalformedError `record.missing`, `record.extra`, `record.hash`, `record.size`.
    """
    if missing := files.keys() - rows.keys() - unhashed:
        raise MalformedError("record.missing", f"RECORD does not name {_some(missing)}")
    if extra := rows.keys() - files.keys() - unhashed:
        raise MalformedError("record.extra", f"RECORD names {_some(extra)}, which is not there")
    for path, size in files.items():
        if path in unhashed:
            continue
        if rows[path].digest is None:
            raise MalformedError("record.hash", f"RECORD has no hash of {shown(path)}")
        if rows[path].size not in (None, size):
            message = f"RECORD states another size of {shown(path)} than its {size} bytes"
            raise MalformedError("record.size", message)


def check_hash(path: str, recorded: Recorded, found: Mapping[str, bytes]) -> None:
    """Compare a file's digests with its row. Raises MalformedError `record.hash`."""
    if recorded.algorithm is not None and found[recorded.algorithm] != recorded.digest:
        message = f"{shown(path)} is not the file that RECORD holds the hash of"
        raise MalformedError("record.hash", message)


def _row(row: list[str]) -> tuple[str, Recorded]:
    if len(row) != 3:  # noqa: PLR2004 - path, hash, size
        raise MalformedError("record.syntax", f"a row with {len(row)} fields: {shown(row)}")
    path, hashed, size = row
    if size and not (size.isascii() and size.isdigit() and len(size) <= 20):  # noqa: PLR2004 - 64 bits
        raise MalformedError("record.size", f"no size of {shown(path)}: {shown(size)}")
    algorithm, _, text = hashed.partition("=")
    length = int(size) if size else None
    if not hashed:
        return path, Recorded(None, None, length)
    if algorithm not in SIZES:
        message = f"the hash of {shown(path)} is not SHA-256, SHA-384 or SHA-512"
        raise MalformedError("record.hash", message)
    return path, Recorded(algorithm, _decoded(path, text, SIZES[algorithm]), length)


def _decoded(path: str, text: str, size: int) -> bytes:
    """Decode URL-safe base64 without padding."""
    try:
        digest = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("record.hash", f"the hash of {shown(path)} is no base64") from error
    if len(digest) != size:
        raise MalformedError("record.hash", f"the hash of {shown(path)} has the wrong length")
    return digest


def _some(paths: set[str]) -> str:
    return f"{shown(min(paths))}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
