"""Changing valid bytes so that they stay near valid.

A fuzzer that changes bytes of deterministic CBOR is stopped by the decoder nearly every time, so
these change the decoded value, also inside byte strings that hold CBOR, and encode it again.
Chance comes from the caller's `Random`, so a fixed seed gives the same bytes each time.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import TypeAlias, cast

from laminator import cbor
from laminator.cbor import Key, Value
from laminator.errors import MalformedError

Change: TypeAlias = Callable[[bytes], bytes]
"""Changes bytes without knowing what they mean: libFuzzer's, or `byte_change`."""

Mutation: TypeAlias = Callable[[bytes, Random, Change], bytes]

LENGTH_BYTES = 4
_ODD: tuple[Value, ...] = (
    *(0, 1, -1, 23, 24, 255, 256, 65_535, 2**31, 2**32 - 1, 2**53, 2**53 + 1, 2**63, 2**64 - 1),
    *(-(2**63), -(2**64), 0.0, -0.0, 1.5, 1e300, 5e-324, float("inf"), float("nan")),
    *(None, True, False, "", b"", (), {}, "sha-256", "..", "a\nb", "\u202e", "nonce", bytes(32)),
)
_INTERESTING = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"-")


def mutate_as_bytes(data: bytes, random: Random, change: Change) -> bytes:
    """Change `data` as bytes of any kind."""
    del random
    return change(data)


def mutate_as_cbor(data: bytes, random: Random, change: Change) -> bytes:
    """Change one to three places of the value that `data` encodes; mostly deterministic again."""
    value = _decoded(data)
    if value is None or random.random() < 0.1:
        return change(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _changed(value, random, change)
    try:
        return cbor.encode(cast("cbor.Encodable", value))
    except (MalformedError, RecursionError):
        return change(data)


def mutate_as_frames(data: bytes, random: Random, change: Change) -> bytes:
    """Change one of the frames (big-endian length, CBOR), or leave out, repeat or move one."""
    frames = list(_frames(data))
    if not frames or random.random() < 0.1:
        return change(data)
    changed = _changed_items(frames, random, change)
    return b"".join(len(frame).to_bytes(LENGTH_BYTES, "big") + frame for frame in changed)


def mutate_as_sequence(data: bytes, random: Random, change: Change) -> bytes:
    """Change one item of a CBOR sequence, or leave out, repeat or move one."""
    try:
        items = list(cbor.split_sequence(data))
    except MalformedError:
        items = []
    if not items or random.random() < 0.1:
        return change(data)
    return b"".join(_changed_items(items, random, change))


def _changed_items(items: list[bytes], random: Random, change: Change) -> list[bytes]:
    place = random.randrange(len(items))
    match random.randrange(8):
        case 0:
            del items[place]
        case 1:
            items.insert(random.randrange(len(items)), items[place])
        case 2:
            items.append(items.pop(place))
        case _:
            items[place] = mutate_as_cbor(items[place], random, change)
    return items


def with_unknown_keys(data: bytes) -> Iterator[bytes]:
    """Yield what `data` encodes with one key more, once for each of its maps, however deep."""
    value = _decoded(data)
    if value is not None:
        for longer in _longer(value):
            yield cbor.encode(cast("cbor.Encodable", longer))


def _longer(value: Value) -> Iterator[Value]:
    match value:
        case dict():
            yield {**value, "unknown": 1}
            for key, item in value.items():
                yield from ({**value, key: longer} for longer in _longer(item))
        case tuple():
            for place, item in enumerate(value):
                yield from ((*value[:place], x, *value[place + 1 :]) for x in _longer(item))
        case bytes():
            yield from with_unknown_keys(value)


def byte_change(random: Random) -> Change:
    """Return a change of bytes that needs no fuzzer."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 4))):
            place = random.randrange(len(changed) + 1)
            match random.randrange(5):
                case 0 if place < len(changed):
                    changed[place] ^= 1 << random.randrange(8)
                case 1 if place < len(changed):
                    changed[place] = random.randrange(256)
                case 2:
                    del changed[place : place + random.randrange(1, 9)]
                case 3:
                    changed[place:place] = random.choice(_INTERESTING)
                case _:
                    start = random.randrange(len(changed) + 1)
                    changed[place:place] = changed[start : start + random.randrange(1, 33)]
        return bytes(changed)

    return change


def _decoded(data: bytes) -> Value | None:
    try:
        return cbor.decode(data)
    except MalformedError:
        return None


def _frames(data: bytes) -> Iterator[bytes]:
    """Yield the whole frames at the start of `data`."""
    position = 0
    while position + LENGTH_BYTES <= len(data):
        start = position + LENGTH_BYTES
        position = start + int.from_bytes(data[position:start], "big")
        if position > len(data):
            return
        yield data[start:position]


def _changed(value: Value, random: Random, change: Change) -> Value:
    """Return `value` changed in one place; containers are mostly descended into."""
    if isinstance(value, tuple | dict) and value and random.random() < 0.85:
        return _changed_inside(value, random, change)
    match value:
        case dict():
            return _changed_map(value, random)
        case tuple():
            return _changed_array(value, random)
        case bytes():
            return _changed_bytes(value, random, change)
        case str() if random.random() < 0.7:
            return change(value.encode()).decode(errors="replace")
        case bool() | None:
            return random.choice(_ODD)
        case int() if random.random() < 0.5:
            return value + random.choice((-1, 1, 2 ** random.randrange(64)))
        case _:
            return random.choice(_ODD)


def _changed_inside(value: Value, random: Random, change: Change) -> Value:
    if isinstance(value, dict):
        key = random.choice(list(value))
        return {**value, key: _changed(value[key], random, change)}
    assert isinstance(value, tuple)
    place = random.randrange(len(value))
    return (*value[:place], _changed(value[place], random, change), *value[place + 1 :])


def _changed_map(value: dict[Key, Value], random: Random) -> Value:
    changed = dict(value)
    keys = list(value)
    match random.randrange(5):
        case 0 if keys:
            del changed[random.choice(keys)]
        case 1 if keys:
            changed[random.choice(keys)] = value[random.choice(keys)]
        case 2 if keys:
            changed[random.choice(("x", "../x", 0, -1, ""))] = changed.pop(random.choice(keys))
        case 3:
            changed[random.choice(("x", "name", "on", "tree", "plan", 10, 265))] = random.choice(
                [*_ODD, *value.values()]
            )
        case _:
            return random.choice([*_ODD, *value.values()])
    return changed


def _changed_array(value: tuple[Value, ...], random: Random) -> Value:
    items = list(value)
    match random.randrange(5):
        case 0 if items:
            del items[random.randrange(len(items))]
        case 1 if items:
            items.insert(random.randrange(len(items) + 1), random.choice(items))
        case 2 if items:
            items.append(items.pop(random.randrange(len(items))))
        case 3:
            items.insert(random.randrange(len(items) + 1), random.choice(_ODD))
        case _:
            return random.choice([*_ODD, *items])
    return tuple(items)


def _changed_bytes(value: bytes, random: Random, change: Change) -> Value:
    inner = _decoded(value)
    if isinstance(inner, tuple | dict) and random.random() < 0.85:
        try:
            return cbor.encode(cast("cbor.Encodable", _changed(inner, random, change)))
        except (MalformedError, RecursionError):
            return change(value)
    return change(value) if random.random() < 0.9 else random.choice(_ODD)
