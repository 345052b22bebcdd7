"""Changing DER so that it stays DER: lengths follow from what is changed."""

from random import Random
from typing import NamedTuple

from harnesses.mutation import Change, mutate_as_cbor

_CONSTRUCTED, _BIT_STRING, _OCTET_STRING = 0x20, 0x03, 0x04
_SEQUENCE = b"\x30"
_MAX_DEPTH = 24
_TAGS = (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x17, 0x18, 0x30, 0x31, 0x80, 0xA0, 0xA1)
_LONG_FORM = 0x80


class _Node(NamedTuple):
    """An element: its tag, what precedes its elements, its elements or else its octets."""

    tag: int
    prefix: bytes
    inner: "tuple[_Node, ...] | None"
    octets: bytes


def mutate_as_der(data: bytes, random: Random, change: Change) -> bytes:
    """Change one to three elements of `data`; mostly DER again."""
    nodes = _parsed(data, 0)
    if nodes is None or len(nodes) != 1 or random.random() < 0.1:
        return change(data)
    node = nodes[0]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        node = _changed(node, random, change)
    return _encoded(node)


def mutate_as_cbor_of_der(data: bytes, random: Random, change: Change) -> bytes:
    """Change the value that `data` encodes; in it, what looks like DER as DER."""

    def change_inside(part: bytes) -> bytes:
        is_der = part.startswith(_SEQUENCE)
        return mutate_as_der(part, random, change) if is_der else change(part)

    return mutate_as_cbor(data, random, change_inside)


def _parsed(data: bytes, depth: int) -> tuple[_Node, ...] | None:
    """Return the elements that `data` is made of, None where it is not DER."""
    nodes, position = [], 0
    while position < len(data):
        head = data[position : position + 6]
        if len(head) < 2:
            return None
        count = max(head[1] - _LONG_FORM, 0)
        size = int.from_bytes(head[2 : 2 + count], "big") if count else head[1]
        start = position + 2 + count
        position = start + size
        if count > 4 or position > len(data):
            return None
        nodes.append(_node(head[0], data[start:position], depth))
    return tuple(nodes)


def _node(tag: int, content: bytes, depth: int) -> _Node:
    prefix = content[:1] if tag == _BIT_STRING else b""
    if depth < _MAX_DEPTH and (tag & _CONSTRUCTED or tag in (_BIT_STRING, _OCTET_STRING)):
        inner = _parsed(content[len(prefix) :], depth + 1)
        if inner is not None and (inner or tag & _CONSTRUCTED):
            return _Node(tag, prefix, inner, b"")
    return _Node(tag, b"", None, content)


def _encoded(node: _Node) -> bytes:
    content = node.prefix + (
        node.octets if node.inner is None else b"".join(map(_encoded, node.inner))
    )
    size = len(content)
    if size < _LONG_FORM:
        return bytes([node.tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([node.tag, _LONG_FORM | len(digits)]) + digits + content


def _changed(node: _Node, random: Random, change: Change) -> _Node:
    if node.inner and random.random() < 0.9:
        place = random.randrange(len(node.inner))
        changed = _changed(node.inner[place], random, change)
        return node._replace(inner=(*node.inner[:place], changed, *node.inner[place + 1 :]))
    if random.random() < 0.1:
        return node._replace(tag=random.choice(_TAGS))
    if node.inner is None:
        return node._replace(octets=change(node.octets))
    inner = list(node.inner)
    match random.randrange(4):
        case 0 if inner:
            del inner[random.randrange(len(inner))]
        case 1 if inner:
            inner.insert(random.randrange(len(inner) + 1), random.choice(inner))
        case 2 if inner:
            inner.append(inner.pop(random.randrange(len(inner))))
        case _:
            octets = random.choice((b"", b"\x00", b"\xff", b"\x00" * 9))
            inner.insert(
                random.randrange(len(inner) + 1), _Node(random.choice(_TAGS), b"", None, octets)
            )
    return node._replace(inner=tuple(inner))
