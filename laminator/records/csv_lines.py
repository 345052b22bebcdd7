"""CSV with a header row (RFC 4180, UTF-8), strictly and row by row.

An empty cell is null, but in a text column it is the empty text. Blanks belong to the cell. Where
no schema is given, a column's type follows from all its cells that are not empty: bool (true and
false, or True and False), int64, float64 (numbers as JSON writes them), else text.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import IO

from laminator.errors import MalformedError, shown
from laminator.measure.csv_table import check_names
from laminator.records.schema import Field, Schema, make_schema, refuse

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,400})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")
_SPECIAL = frozenset({"nan", "inf", "-inf"})
_BOOLS = {"true": True, "false": False, "True": True, "False": False}


def read_csv(file: IO[bytes], schema: Schema) -> Iterator[dict[str, object]]:
    """Yield each row's values by name, typed by the schema. Raises MalformedError."""
    fields = {item.name: item for item in schema.fields}
    rows = _rows(file)
    names = next(rows)
    if sorted(names) != sorted(fields):
        raise MalformedError("record.columns", "the header has other columns than the schema")
    columns = [fields[name] for name in names]
    for row in rows:
        yield {item.name: _cell(item, cell) for item, cell in zip(columns, row, strict=True)}


def infer_csv(file: IO[bytes]) -> Schema:
    """Return the schema that all cells of the file make. Raises MalformedError."""
    rows = _rows(file)
    names = next(rows)
    possible = [["bool", "int64", "float64"] for _ in names]
    seen = [False] * len(names)
    for row in rows:
        for index, cell in enumerate(row):
            if cell and (kinds := possible[index]):
                seen[index] = True
                possible[index] = [kind for kind in kinds if _fits(kind, cell)]
    found = zip(names, possible, seen, strict=True)
    return make_schema(
        [Field(name, (kinds[:1] or ["text"])[0] if any_ else "text") for name, kinds, any_ in found]
    )


def _fits(kind: str, cell: str) -> bool:
    if kind == "bool":
        return cell in _BOOLS
    if kind == "int64":
        return bool(_WHOLE.fullmatch(cell)) and -(1 << 63) <= int(cell) < 1 << 63
    return bool(_NUMBER.fullmatch(cell)) and abs(float(cell)) != float("inf")


def _rows(file: IO[bytes]) -> Iterator[list[str]]:
    """Yield the header and the rows."""
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        lines = csv.reader(text, strict=True)
        names = next(lines, [])
        check_names(names)
        yield names
        for number, row in enumerate(lines, start=1):
            if len(row) != len(names) and not (len(names) == 1 and not row):
                message = f"row {number} has {len(row)} cells, expected {len(names)}"
                raise MalformedError("csv.row", message)
            yield row or [""]
    except UnicodeDecodeError as error:
        raise MalformedError("csv.text", "not UTF-8") from error
    except csv.Error as error:
        raise MalformedError("csv.syntax", f"not CSV: {error}") from error
    finally:
        text.detach()


def _cell(item: Field, cell: str) -> object:
    if item.type == "text":
        return cell
    if not cell:
        return None
    if item.type == "bool" and cell in _BOOLS:
        return _BOOLS[cell]
    if item.type in ("int64", "uint64") and _INTEGER.fullmatch(cell):
        return int(cell)
    if item.type in ("float64", "float32") and (cell in _SPECIAL or _NUMBER.fullmatch(cell)):
        number = float(cell)
        if cell in _SPECIAL or abs(number) != float("inf"):
            return number
    raise refuse(item, shown(cell))


_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,19})", re.ASCII)
