"""A strict reader of DER (X.690 section 10), for structures that cryptography does not read.

One element is a tag of one octet, a length in its shortest form, and that many octets of content.
Nothing is unpacked before it is asked for, so a reader does as much work as its caller has fields.
"""

import datetime as dt
import re
from typing import NamedTuple

from laminator.errors import MalformedError, shown

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, GENERALIZED_TIME, SEQUENCE, SET = 0x0C, 0x18, 0x30, 0x31
CONTEXT, CONSTRUCTED = 0x80, 0x20

MAX_ELEMENTS = 64
MAX_INTEGER_BYTES = 64

_HIGH_TAG = 0x1F
_LONG_FORM = 0x80
_MAX_LENGTH_BYTES = 4
_MAX_OID_BYTES = 64
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.(\d{0,20}[1-9]))?Z", re.ASCII)
_TIME_FORM = "a time like 20260131120000Z"


class Element(NamedTuple):
    """One element: its identifier octet, its content, and all of its bytes."""

    tag: int
    content: bytes
    encoded: bytes


class DerFields:
    """The elements of one constructed element, taken in order; `close` refuses what is left."""

    def __init__(self, element: Element, path: str) -> None:
        self._left = list(reversed(elements(element.content, path)))
        self._path = path

    def take(self, tag: int, name: str) -> Element:
        """Return the next element, which has to have `tag`. Raises MalformedError."""
        if not self._left or self._left[-1].tag != tag:
            found = f"tag {self._left[-1].tag:#04x}" if self._left else "the end"
            raise malformed(f"{self._path}.{name}", f"tag {tag:#04x}", found)
        return self._left.pop()

    def optional(self, tag: int, name: str) -> Element | None:
        """Return the next element if it has `tag`, else None."""
        is_next = bool(self._left) and self._left[-1].tag == tag
        return self.take(tag, name) if is_next else None

    def close(self) -> None:
        """Refuse elements that nobody took. Raises MalformedError."""
        if self._left:
            raise malformed(self._path, "the end", f"tag {self._left[-1].tag:#04x}")


def malformed(path: str, expected: str, found: str) -> MalformedError:
    """Return the error for bytes that are not the DER that they should be."""
    return MalformedError("der.element", f"expected {expected}, got {found}", path=path)


def parse_element(data: bytes, path: str) -> Element:
    """Parse `data` as one element and nothing after it. Raises MalformedError."""
    element = _next(data, 0, path)
    if len(element.encoded) != len(data):
        raise malformed(path, "one element", f"{len(data) - len(element.encoded)} bytes after it")
    return element


def elements(data: bytes, path: str, *, most: int = MAX_ELEMENTS) -> tuple[Element, ...]:
    """Parse `data` as at most `most` elements, one after the other. Raises MalformedError."""
    found: list[Element] = []
    offset = 0
    while offset < len(data):
        if len(found) == most:
            raise malformed(path, f"at most {most} elements", "more")
        found.append(_next(data, offset, path))
        offset += len(found[-1].encoded)
    return tuple(found)


def integer(element: Element, path: str) -> int:
    """Return the value of an INTEGER of at most 64 bytes, of any sign. Raises MalformedError."""
    content = element.content
    if not 1 <= len(content) <= MAX_INTEGER_BYTES:
        raise malformed(path, f"an integer of 1 to {MAX_INTEGER_BYTES} bytes", str(len(content)))
    if len(content) > 1 and content[0] in {0x00, 0xFF} and content[0] ^ content[1] < 0x80:  # noqa: PLR2004 - the sign bit
        raise malformed(path, "the shortest integer", content.hex())
    return int.from_bytes(content, "big", signed=True)


def oid(element: Element, path: str) -> str:
    """Return an OBJECT IDENTIFIER as numbers with dots. Raises MalformedError."""
    content = element.content
    if not 1 <= len(content) <= _MAX_OID_BYTES or content[-1] & 0x80:
        raise malformed(path, "an object identifier", content.hex()[:80])
    arcs, arc, starts = [], 0, True
    for octet in content:
        if starts and octet == _LONG_FORM:
            raise malformed(path, "the shortest object identifier", content.hex())
        arc = arc << 7 | octet & 0x7F
        starts = not octet & 0x80
        if starts:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def generalized_time(element: Element, path: str) -> dt.datetime:
    """Return a GeneralizedTime in UTC (X.690 11.7), cut to microseconds. Raises MalformedError."""
    text = element.content.decode("ascii", "replace")
    match = _TIME.fullmatch(text)
    if match is None:
        raise malformed(path, _TIME_FORM, shown(text))
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    micros = int((match[7] or "")[:6].ljust(6, "0"))
    try:
        return dt.datetime(year, month, day, hour, minute, second, micros, tzinfo=dt.UTC)
    except ValueError as error:
        raise malformed(path, _TIME_FORM, shown(text)) from error


def _next(data: bytes, offset: int, path: str) -> Element:
    """Return the element at `offset`. Raises MalformedError."""
    head = data[offset : offset + 2 + _MAX_LENGTH_BYTES]
    if len(head) < 2 or head[0] & _HIGH_TAG == _HIGH_TAG:  # noqa: PLR2004 - tag and length
        raise malformed(path, "a tag of one octet and a length", head.hex() or "the end")
    count = max(head[1] - _LONG_FORM, 0)
    length = int.from_bytes(head[2 : 2 + count], "big") if count else head[1]
    shortest = 0 if length < _LONG_FORM else (length.bit_length() + 7) // 8
    if count != shortest:
        raise malformed(path, "a length in its shortest form", head.hex())
    start = offset + 2 + count
    if start + length > len(data):
        raise malformed(path, f"{length} bytes of content", f"{len(data) - start}")
    return Element(head[0], data[start : start + length], data[offset : start + length])
