"""From decoded CBOR to typed values: every field taken by name, unknown fields refused."""

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from laminator.cbor import Key, Value
from laminator.digest import SIZES, Digest
from laminator.errors import MalformedError, shown

MAX_TEXT = 4096
MAX_ENTRIES = 10_000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,99}", re.ASCII)

T = TypeVar("T")
Parse = Callable[[Value, str], T]


class Fields:
    """The entries of one map, each taken once; `close` refuses what is left."""

    def __init__(self, value: Value, path: str) -> None:
        if not isinstance(value, dict):
            raise malformed(path, "a map", value)
        self._left = dict(value)
        self._path = path

    def take(self, key: Key, parse: Parse[T]) -> T:
        """Return the entry `key`, parsed. Raises MalformedError where it is missing."""
        if key not in self._left:
            raise MalformedError("field.missing", f"no field {shown(key)}", path=self._path)
        return parse(self._left.pop(key), f"{self._path}.{key}")

    def optional(self, key: Key, parse: Parse[T]) -> T | None:
        """Return the entry `key`, parsed, or None where it is absent."""
        return self.take(key, parse) if key in self._left else None

    def close(self) -> None:
        """Refuse entries that nobody took. Raises MalformedError."""
        if self._left:
            unknown = shown(next(iter(self._left)))
            raise MalformedError("field.unknown", f"unknown field {unknown}", path=self._path)


def malformed(path: str, expected: str, found: object) -> MalformedError:
    """Return the error for a field that is not what it should be."""
    return MalformedError("field.type", f"expected {expected}, got {shown(found)}", path=path)


def text(value: Value, path: str) -> str:
    """Parse a text of at most MAX_TEXT characters."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise malformed(path, f"text of at most {MAX_TEXT} characters", value)
    return value


def name(value: Value, path: str) -> str:
    """Parse a name: 1 to 100 of A-Z a-z 0-9 _ . / - that does not start with a sign."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise malformed(path, "a name of 1 to 100 letters, digits, '_', '.', '/', '-'", value)
    return value


def uint(value: Value, path: str) -> int:
    """Parse an unsigned integer of at most 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise malformed(path, "an unsigned integer", value)
    return value


def flag(value: Value, path: str) -> bool:
    """Parse a boolean."""
    if not isinstance(value, bool):
        raise malformed(path, "true or false", value)
    return value


def finite(value: Value, path: str) -> float:
    """Parse a finite floating-point number."""
    if not isinstance(value, float) or not math.isfinite(value):
        raise malformed(path, "a finite floating-point number", value)
    return value


def octets(least: int, most: int) -> Parse[bytes]:
    """Return a parser of byte strings of `least` to `most` bytes."""

    def parse(value: Value, path: str) -> bytes:
        if not isinstance(value, bytes) or not least <= len(value) <= most:
            raise malformed(path, f"{least} to {most} bytes", value)
        return value

    return parse


def choice(*choices: str) -> Parse[str]:
    """Return a parser of one of `choices`."""

    def parse(value: Value, path: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise malformed(path, " or ".join(choices), value)
        return value

    return parse


def array(parse_item: Parse[T], *, least: int = 0, most: int = MAX_ENTRIES) -> Parse[tuple[T, ...]]:
    """Return a parser of arrays of `least` to `most` items."""

    def parse(value: Value, path: str) -> tuple[T, ...]:
        if not isinstance(value, tuple) or not least <= len(value) <= most:
            raise malformed(path, f"an array of {least} to {most} items", value)
        return tuple(parse_item(item, f"{path}[{index}]") for index, item in enumerate(value))

    return parse


def named(parse_item: Parse[T], *, most: int = MAX_ENTRIES) -> Parse[Mapping[str, T]]:
    """Return a parser of maps from names to items, at most `most` of them."""

    def parse(value: Value, path: str) -> Mapping[str, T]:
        if not isinstance(value, dict) or len(value) > most:
            raise malformed(path, f"a map of at most {most} entries", value)
        items = {name(key, path): parse_item(item, f"{path}.{key}") for key, item in value.items()}
        return MappingProxyType(items)

    return parse


def digest(value: Value, path: str) -> Digest:
    """Parse ``[algorithm, bytes]``."""
    match value:
        case (str() as algorithm, bytes() as octet_string) if SIZES.get(algorithm) == len(
            octet_string
        ):
            return Digest(algorithm, octet_string)
        case _:
            raise malformed(path, "[algorithm, digest]", value)
