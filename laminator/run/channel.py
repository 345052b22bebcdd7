"""The attester's end of the workload's channel: the one way a workload can speak.

A message is four bytes of big-endian length and that many bytes of deterministic CBOR; each gets
one reply of the same form, `{"ok": value}` or `{"refused": code, "message": text}`:

    {"op": "input", "name": tstr}     the path of a declared input
    {"op": "output", "name": tstr}    the path of a declared output
    {"op": "leaves", "name": tstr}    [path of the leaves, tree] of an input that is read in place,
                                      null for another input
    {"op": "seed"}                    the run's seed, an integer of 64 bits
    {"op": "report", "name": tstr, "value": any, "on": [* tstr], "unit": tstr / null,
     "parameters": {* tstr => any}}   a statement, in the workload's own word

There is no field for the source of a statement: whatever arrives here is `reported`. Two rules
for what goes wrong:

- *A refused message* (unknown operation or field, a name that is no input or output, a seed where
  the run has none, NaN, a statement made twice, too much in all) leaves nothing
  behind; the workload is told, and the run goes on.
- *A broken channel* (a length beyond the limit, bytes that are not deterministic CBOR, a message
  cut off, replies that nobody reads, too many messages) fails the run: no card is written.
"""

import select
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from laminator.cbor import Encodable, Key, Value, decode, encode
from laminator.claims import Property
from laminator.claims_codec import parse_property, plain_property, statement_subject
from laminator.errors import MalformedError, shown

CHANNEL_VARIABLE = "LAMINATOR_CHANNEL"
MAX_MESSAGE_BYTES = 64 * 1024
MAX_MESSAGES = 10_000
MAX_STATED_BYTES = 4 * 1024 * 1024
LENGTH_BYTES = 4
_REPORT_FIELDS = {"op", "name", "value", "on", "unit", "parameters"}


class Names(NamedTuple):
    """What the workload may ask for: the paths of its inputs and outputs, by name, and a seed.

    `leaves` has, of inputs that are read in place, the path of their leaves and their tree.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    seed: int | None = None
    leaves: Mapping[str, tuple[str, str]] = MappingProxyType({})


class _Statements:
    """What the workload has said so far, each thing once and within limits."""

    def __init__(self) -> None:
        self._items: dict[bytes, Property] = {}
        self._bytes = 0

    def add(self, report: Property) -> None:
        """Keep `report`. Raises MalformedError to refuse it."""
        key = statement_subject(report)
        if key in self._items:
            message = f"{report.name} was already reported; tell them apart with parameters"
            raise MalformedError("channel.twice", message)
        size = self._bytes + len(encode(plain_property(report)))
        if size > MAX_STATED_BYTES:
            message = f"more than {MAX_STATED_BYTES} bytes of statements in one run"
            raise MalformedError("channel.total", message)
        self._items[key] = report
        self._bytes = size

    def all(self) -> tuple[Property, ...]:
        """Return the statements in their order."""
        return tuple(self._items.values())


def serve(connection: socket.socket, names: Names, ended: int) -> tuple[Property, ...]:
    """Answer the workload's messages until it hangs up; return its statements in order.

    `ended` is a descriptor that becomes readable when the workload has ended (a pidfd): from
    then on only what already arrived is read. Raises MalformedError for a broken channel.
    """
    statements = _Statements()
    for _ in range(MAX_MESSAGES):
        message = _receive(connection, ended)
        if message is None:
            return statements.all()
        _send(connection, encode(_reply(message, names, statements)))
    raise MalformedError("channel.count", f"the workload sent more than {MAX_MESSAGES} messages")


def _reply(message: Value, names: Names, statements: _Statements) -> dict[Key, Encodable]:
    try:
        return {"ok": _answer(message, names, statements)}
    except MalformedError as error:
        return {"refused": error.code, "message": error.message}


def _answer(message: Value, names: Names, statements: _Statements) -> Encodable:
    """Do what one message asks and return its answer. Raises MalformedError to refuse it."""
    if not isinstance(message, dict):
        raise MalformedError("channel.message", "expected a map")
    match message.get("op"):
        case "input":
            return _path(message, names.inputs)
        case "output":
            return _path(message, names.outputs)
        case "leaves":
            _path(message, names.inputs)
            return names.leaves.get(str(message["name"]))
        case "seed":
            return _seed(message, names.seed)
        case "report":
            statements.add(_report(message, names))
            return None
        case operation:
            raise MalformedError("channel.op", f"no operation {shown(operation)}")


def _path(message: dict[Key, Value], paths: Mapping[str, str]) -> str:
    name = message.get("name")
    if set(message) != {"op", "name"} or not isinstance(name, str):
        raise MalformedError("channel.fields", "expected op and name")
    if name not in paths:
        known = ", ".join(sorted(paths)) or "none"
        raise MalformedError("channel.name", f"no such name: {shown(name)} (there is: {known})")
    return paths[name]


def _seed(message: dict[Key, Value], seed: int | None) -> int:
    if set(message) != {"op"}:
        raise MalformedError("channel.fields", "expected op alone")
    if seed is None:
        raise MalformedError("channel.seed", "this run has no seed: start it with --seed")
    return seed


def _report(message: dict[Key, Value], names: Names) -> Property:
    if set(message) != _REPORT_FIELDS:
        odd = sorted(map(str, set(message) ^ _REPORT_FIELDS))
        raise MalformedError("channel.fields", f"missing or unknown fields: {shown(odd)}")
    plain = {key: value for key, value in message.items() if key != "op"}
    if plain["unit"] is None:
        del plain["unit"]
    report = parse_property({**plain, "source": "reported", "measurer": "workload"}, "report")
    for name in report.on:
        if name not in names.inputs and name not in names.outputs:
            raise MalformedError("channel.on", f"{shown(name)} is no input or output of this run")
    return report


def _receive(connection: socket.socket, ended: int) -> Value | None:
    """Return the next message, or None when the workload hung up between messages."""
    head = _receive_exactly(connection, LENGTH_BYTES, ended)
    if not head:
        return None
    size = int.from_bytes(head, "big")
    if size > MAX_MESSAGE_BYTES:
        message = f"a message of {size} bytes, limit {MAX_MESSAGE_BYTES}"
        raise MalformedError("channel.size", message)
    body = _receive_exactly(connection, size, ended)
    if len(head) < LENGTH_BYTES or len(body) < size:
        raise MalformedError("channel.cut", "the workload ended in the middle of a message")
    return decode(body, max_bytes=MAX_MESSAGE_BYTES)


def _receive_exactly(connection: socket.socket, size: int, ended: int) -> bytes:
    """Return `size` bytes, or fewer where the stream or the workload ended."""
    data = bytearray()
    while len(data) < size and _readable(connection, ended):
        chunk = connection.recv(size - len(data))
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _readable(connection: socket.socket, ended: int) -> bool:
    """Wait for bytes or for the workload's end; return whether there is something to read."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(ended, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll()}
    return connection.fileno() in ready


def _send(connection: socket.socket, body: bytes) -> None:
    """Send a reply without waiting: who reads each reply always leaves room for the next."""
    frame = len(body).to_bytes(LENGTH_BYTES, "big") + body
    try:
        sent = connection.send(frame, socket.MSG_DONTWAIT)
    except (BrokenPipeError, ConnectionResetError):
        return  # the workload has hung up; the next read ends the service
    except BlockingIOError:
        sent = 0
    if sent < len(frame):
        raise MalformedError("channel.unread", "the workload does not read its replies")
