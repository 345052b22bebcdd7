"""JSON lines, strictly: one object a line, UTF-8, no key twice, no NaN, numbers in 64 bits.

A number written without fraction and exponent is an integer, any other a float. Values are null,
bool, number and text; nested arrays and objects are refused.
"""

import json
import math
from collections.abc import Iterator
from typing import IO

from laminator.errors import MalformedError, shown
from laminator.records.schema import Field, Schema, make_schema

MAX_LINE = 16 * 1024**2
_TYPES = {bool: "bool", int: "int64", float: "float64", str: "text"}


def parse_json(data: bytes) -> object:
    """Parse one JSON text; arrays become tuples. Raises MalformedError."""
    try:
        return _frozen(
            json.loads(
                data.decode(),
                object_pairs_hook=_object,
                parse_constant=_constant,
                parse_float=_float,
            )
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError("json.syntax", f"not JSON: {error}") from error


def read_json_lines(file: IO[bytes]) -> Iterator[dict[str, object]]:
    """Yield each line's values by name. Raises MalformedError."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise MalformedError("json.line", f"line {number} is beyond {MAX_LINE} bytes")
        if not line.strip():
            raise MalformedError("json.line", f"line {number} is empty")
        record = parse_json(line)
        if not isinstance(record, dict):
            raise MalformedError("json.record", f"line {number} is no object")
        for name, value in record.items():
            if isinstance(value, dict | tuple):
                message = f"line {number}: {shown(name)} holds an array or object"
                raise MalformedError("json.nested", message)
        yield record


def infer_json_lines(file: IO[bytes]) -> Schema:
    """Return the schema that all lines make. Raises MalformedError where types differ.

    Integers and floats make float64; a column of nulls alone is text.
    """
    kinds: dict[str, set[type]] = {}
    for record in read_json_lines(file):
        for name, value in record.items():
            kinds.setdefault(name, set()).add(type(value))
    return make_schema([Field(name, _kind(name, found)) for name, found in kinds.items()])


def _kind(name: str, found: set[type]) -> str:
    found = found - {type(None)}
    if found == {int, float}:
        return "float64"
    if len(found) > 1:
        message = f"column {shown(name)} mixes types; give --schema or make them one"
        raise MalformedError("json.types", message)
    return _TYPES[found.pop()] if found else "text"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("json.twice", "an object has one key twice")
    return found


def _constant(word: str) -> object:
    raise MalformedError("json.constant", f"{word} is not JSON")


def _float(word: str) -> float:
    number = float(word)
    if math.isinf(number):
        raise MalformedError("json.number", f"{shown(word)} is beyond 64 bits")
    return number


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value
