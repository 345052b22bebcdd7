"""CSV with a header row (RFC 4180, UTF-8), strictly, as columns.

Blanks after a separator are skipped, as in the UCI files. Every row has as many cells as the
header; empty lines may stand at the end only. The kind of a column follows from its cells alone:

- numbers, where every cell is a decimal number (`-12`, `.5`, `1e-3`; no blanks, no `nan`, no
  `inf`) or empty, and one at least is not empty: 64-bit integers where all are whole and written
  so, else 64-bit floats, with NaN for an empty cell;
- text otherwise, cell by cell as written.
"""

import csv
import io
import math
import re
from array import array
from collections.abc import Iterator, Sequence

from laminator.errors import MalformedError, shown
from laminator.measure.columns import Column, NumberColumn, TextColumn

MAX_ROWS = 10_000_000
MAX_COLUMNS = 10_000
MAX_NAME_LENGTH = 256
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INT64 = range(-(1 << 63), 1 << 63)


def parse_csv(data: bytes, header: Sequence[str] = ()) -> tuple[Column, ...]:
    """Parse a CSV file; `header` names the columns of a file that has no header row.

    Raises MalformedError.
    """
    names, rows = _names_and_rows(data, header)
    if not rows:
        return tuple(TextColumn(name=name, values=()) for name in names)
    return tuple(
        column(name, cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)
    )


def column(name: str, cells: tuple[str, ...]) -> Column:
    """Return the column that these cells make, by the rule of this module."""
    whole = [int(cell) for cell in cells if _WHOLE.fullmatch(cell)]
    if whole and len(whole) == len(cells) and min(whole) in _INT64 and max(whole) in _INT64:
        return NumberColumn(name=name, element="<i8", data=_little("q", whole))
    if not any(cells) or not all(_NUMBER.fullmatch(cell) for cell in cells if cell):
        return TextColumn(name=name, values=cells)
    floats = [float(cell) if cell else math.nan for cell in cells]
    if any(map(math.isinf, floats)):
        raise MalformedError("csv.number", f"column {shown(name)} holds a number beyond 64 bits")
    return NumberColumn(name=name, element="<f8", data=_little("d", floats))


def _little(letter: str, numbers: Sequence[float]) -> bytes:
    import sys

    packed = array(letter, numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _names_and_rows(data: bytes, header: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    lines = _lines(data)
    names = list(header) or next(lines, [])
    check_names(names)
    rows: list[list[str]] = []
    ended = False
    for number, row in enumerate(lines, start=1):
        if not row:
            ended = True
            continue
        if ended or len(row) != len(names):
            message = f"row {number} has {len(row)} cells, expected {len(names)}"
            raise MalformedError("csv.row", "an empty line between rows" if ended else message)
        if number > MAX_ROWS:
            raise MalformedError("csv.rows", f"more than {MAX_ROWS} rows")
        rows.append(row)
    return names, rows


def _lines(data: bytes) -> Iterator[list[str]]:
    try:
        text = data.decode("utf-8-sig")
        if "\0" in text:
            raise MalformedError("csv.text", "a null character in the text")
        yield from csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    except UnicodeDecodeError as error:
        raise MalformedError("csv.text", "not UTF-8") from error
    except csv.Error as error:
        raise MalformedError("csv.syntax", f"not CSV: {error}") from error


def check_names(names: Sequence[str]) -> None:
    """Check the names of a data set's columns. Raises MalformedError."""
    if not 0 < len(names) <= MAX_COLUMNS:
        raise MalformedError("dataset.columns", f"expected 1 to {MAX_COLUMNS} columns")
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if not name or len(name) > MAX_NAME_LENGTH:
            message = f"column {position} has no name, or one beyond {MAX_NAME_LENGTH} characters"
            raise MalformedError("dataset.column-name", message)
        if name in seen:
            raise MalformedError("dataset.column-name", f"two columns are named {shown(name)}")
        seen.add(name)
