"""Deterministic CBOR (RFC 8949 section 4.2.1): one encoding per value, and no other is read.

Decoding is bounded before anything is allocated, then strict by encoding again and comparing.
cbor2's own canonical mode orders keys by length first (RFC 7049) and keeps the last duplicate,
so the encoder is ours.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import cbor2

from laminator.errors import MalformedError

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 16
MAX_ITEMS = 2_000_000

Key: TypeAlias = int | str
Value: TypeAlias = (
    int | float | str | bytes | bool | tuple["Value", ...] | Mapping["Key", "Value"] | None
)
Encodable: TypeAlias = (
    int
    | float
    | str
    | bytes
    | bool
    | Sequence["Encodable"]
    | Mapping[int, "Encodable"]
    | Mapping[str, "Encodable"]
    | Mapping[Key, "Encodable"]
    | None
)

_AnyMap: TypeAlias = Mapping[int, Encodable] | Mapping[str, Encodable] | Mapping[Key, Encodable]

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_INT_END = 1 << 64
_DIRECT = 24
_ARGUMENT_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}
_SIMPLE_VALUES = (20, 21, 22, 25, 26, 27)
_FLOATS = ((b"\xf9", ">e"), (b"\xfa", ">f"), (b"\xfb", ">d"))
_NAN = b"\xf9\x7e\x00"


def encode(value: Encodable) -> bytes:
    """Return the one deterministic encoding of `value`.

    Raises MalformedError for a type, a size or a depth that the format does not have.
    """
    out = bytearray()
    _append(out, value, 0)
    return bytes(out)


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> Value:
    """Decode the deterministic encoding of one value: arrays as tuples, maps as dicts.

    Raises MalformedError for everything else: trailing bytes, indefinite lengths, longer
    integers or floats, unsorted or duplicate keys, tags, undefined, NaNs but 0xf97e00.
    """
    if len(data) > max_bytes:
        raise MalformedError("cbor.size", f"{len(data)} bytes, limit {max_bytes}")
    end = _item_end(data, 0)
    if end != len(data):
        raise MalformedError("cbor.trailing", f"{len(data) - end} trailing bytes")
    try:
        value = _frozen(cbor2.loads(data))
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise MalformedError("cbor.syntax", "not CBOR") from error
    again = bytearray()
    _append(again, value, 0)
    if again != data:
        raise MalformedError("cbor.deterministic", "not the deterministic encoding")
    return value


def split_sequence(
    data: bytes, *, max_bytes: int = MAX_BYTES, max_items: int = MAX_ITEMS
) -> tuple[bytes, ...]:
    """Split a CBOR sequence (RFC 8742) into its items' bytes, which are not decoded yet.

    Raises MalformedError.
    """
    if len(data) > max_bytes:
        raise MalformedError("cbor.size", f"{len(data)} bytes, limit {max_bytes}")
    items: list[bytes] = []
    position = 0
    while position < len(data):
        if len(items) == max_items:
            raise MalformedError("cbor.items", f"a sequence of more than {max_items} items")
        end = _item_end(data, position)
        items.append(data[position:end])
        position = end
    return tuple(items)


def _append(out: bytearray, value: Encodable, depth: int) -> None:
    if isinstance(value, str):
        text = _utf8(value)
        _append_head(out, _TEXT, len(text))
        out += text
    elif isinstance(value, bytes):
        _append_head(out, _BYTES, len(value))
        out += value
    elif isinstance(value, Mapping):
        _append_map(out, value, depth)
    elif isinstance(value, Sequence):
        _check_depth(depth)
        _append_head(out, _ARRAY, len(value))
        for item in value:
            _append(out, item, depth + 1)
    else:
        _append_scalar(out, value)


def _append_scalar(out: bytearray, value: object) -> None:
    if value is None:
        out += b"\xf6"
    elif isinstance(value, bool):
        out += b"\xf5" if value else b"\xf4"
    elif isinstance(value, int):
        if not -_INT_END <= value < _INT_END:
            raise MalformedError("cbor.integer", "integer beyond 64 bits")
        _append_head(out, _UINT if value >= 0 else _NEGATIVE, value if value >= 0 else -1 - value)
    elif isinstance(value, float):
        out += _float(value)
    else:
        raise MalformedError("cbor.type", f"no encoding for {type(value).__name__}")


def _append_map(out: bytearray, value: _AnyMap, depth: int) -> None:
    _check_depth(depth)
    entries = []
    for key, item in value.items():
        if isinstance(key, bool) or not isinstance(key, int | str):
            raise MalformedError("cbor.key", f"no key of type {type(key).__name__}")
        entries.append((encode(key), item))
    entries.sort(key=lambda entry: entry[0])
    _append_head(out, _MAP, len(entries))
    for encoded, item in entries:
        out += encoded
        _append(out, item, depth + 1)


def _append_head(out: bytearray, major: int, argument: int) -> None:
    if argument < _DIRECT:
        out.append(major << 5 | argument)
        return
    # As many bytes as hold the argument, up to a power of two: 1, 2, 4 or 8 (RFC 8949, section 3).
    power = ((argument.bit_length() - 1) // 8).bit_length()
    out.append(major << 5 | _DIRECT + power)
    out += argument.to_bytes(1 << power, "big")


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise MalformedError("cbor.text", "text with lone surrogates") from error


def _float(value: float) -> bytes:
    if math.isnan(value):
        return _NAN
    for head, form in _FLOATS[:2]:
        try:
            packed = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, packed)[0] == value:
            return head + packed
    return _FLOATS[2][0] + struct.pack(">d", value)


def _frozen(value: object) -> Value:
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {cast("Key", key): _frozen(item) for key, item in value.items()}
    return cast("Value", value)


def _item_end(data: bytes, start: int) -> int:
    """Walk the heads alone from `start`: every length fits in `data`, depth and count too.

    Returns the position after the item.
    """
    position, items, open_counts = start, 0, [1]
    while open_counts:
        if open_counts[-1] == 0:
            open_counts.pop()
            continue
        open_counts[-1] -= 1
        items += 1
        if items > MAX_ITEMS:
            raise MalformedError("cbor.items", f"more than {MAX_ITEMS} items")
        major, argument, position = _head(data, position)
        if major in (_BYTES, _TEXT):
            position += argument
        elif major in (_ARRAY, _MAP):
            _check_depth(len(open_counts) - 1)
            open_counts.append(argument * (2 if major == _MAP else 1))
        if position > len(data):
            raise MalformedError("cbor.length", "a length points beyond the end")
    return position


def _head(data: bytes, position: int) -> tuple[int, int, int]:
    """Return (major type, argument, next position) of the head at `position`."""
    if position >= len(data):
        raise MalformedError("cbor.length", "ends in the middle of a value")
    major, info = data[position] >> 5, data[position] & 31
    position += 1
    if major == _TAG or (major == _SIMPLE and info not in _SIMPLE_VALUES):
        raise MalformedError("cbor.type", "a tag, or a simple value that the format does not have")
    if info < _DIRECT:
        return major, info, position
    size = _ARGUMENT_SIZES.get(info)
    if size is None:
        raise MalformedError("cbor.indefinite", "indefinite length or reserved head")
    return major, int.from_bytes(data[position : position + size], "big"), position + size


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise MalformedError("cbor.depth", f"nested deeper than {MAX_DEPTH}")
