"""The attester's end of the workload's channel: the one way a workload can speak.

A message is four bytes of big-endian length and that many bytes of deterministic CBOR; each gets
one reply of the same form, `{"ok": value}` or `{"refused": code, "message": text}`:

    {"op": "input", "name": tstr}     the path of a declared input
    {"op": "output", "name": tstr}    the path of a declared output
    {"op": "report", "name": tstr, "value": any, "on": [* tstr], "unit": tstr / null,
     "parameters": {* tstr => any}}   a statement, in the workload's own word

There is no field for the source of a statement: whatever arrives here is `reported`. Two rules
for what goes wrong:

- *A refused message* (unknown operation or field, a name that is no input or output, NaN, a
  statement made twice) leaves nothing behind; the workload is told, and the run goes on.
- *A broken channel* (a length beyond the limit, bytes that are not deterministic CBOR, a message
  cut off, more messages than the limit) fails the run: no card is written.
"""

import select
import socket
from collections.abc import Mapping
from typing import NamedTuple, cast

from laminator.cbor import Encodable, Key, Value, decode, encode
from laminator.errors import MalformedError, shown

CHANNEL_VARIABLE = "LAMINATOR_CHANNEL"
MAX_MESSAGE_BYTES = 64 * 1024
MAX_MESSAGES = 10_000
LENGTH_BYTES = 4
_REPORT_FIELDS = {"op", "name", "value", "on", "unit", "parameters"}


class Report(NamedTuple):
    """A statement as the workload made it."""

    name: str
    value: Value
    on: tuple[str, ...]
    unit: str | None
    parameters: Mapping[str, Value]


class Names(NamedTuple):
    """What the workload may ask for: the paths of its inputs and outputs, by name."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def serve(connection: socket.socket, names: Names, ended: int) -> tuple[Report, ...]:
    """Answer the workload's messages until it hangs up; return its statements in order.

    `ended` is a descriptor that becomes readable when the workload has ended (a pidfd): from
    then on only what already arrived is read. Raises MalformedError for a broken channel.
    """
    reports: dict[bytes, Report] = {}
    for _ in range(MAX_MESSAGES):
        message = _receive(connection, ended)
        if message is None:
            return tuple(reports.values())
        _send(connection, encode(_reply(message, names, reports)))
    raise MalformedError("channel.count", f"the workload sent more than {MAX_MESSAGES} messages")


def _reply(message: Value, names: Names, reports: dict[bytes, Report]) -> dict[Key, Encodable]:
    try:
        return {"ok": _answer(message, names, reports)}
    except MalformedError as error:
        return {"refused": error.code, "message": error.message}


def _answer(message: Value, names: Names, reports: dict[bytes, Report]) -> str | None:
    """Do what one message asks and return its answer. Raises MalformedError to refuse it."""
    if not isinstance(message, dict):
        raise MalformedError("channel.message", "expected a map")
    match message.get("op"):
        case "input":
            return _path(message, names.inputs)
        case "output":
            return _path(message, names.outputs)
        case "report":
            _keep(_report(message, names), reports)
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


def _report(message: dict[Key, Value], names: Names) -> Report:
    if set(message) != _REPORT_FIELDS:
        extra = sorted(map(str, set(message) ^ _REPORT_FIELDS))
        raise MalformedError("channel.fields", f"missing or unknown fields: {shown(extra)}")
    name, on, unit, parameters = (message[key] for key in ("name", "on", "unit", "parameters"))
    if not isinstance(name, str):
        raise MalformedError("channel.report", "name is not text")
    if not isinstance(on, tuple) or not isinstance(parameters, dict):
        raise MalformedError("channel.report", "on is not a list, or parameters is not a map")
    known = names.inputs.keys() | names.outputs.keys()
    subjects = tuple(item for item in on if isinstance(item, str) and item in known)
    if len(subjects) != len(on):
        raise MalformedError("channel.on", f"{shown(on)} is not all inputs and outputs of this run")
    if unit is not None and not isinstance(unit, str):
        raise MalformedError("channel.report", "unit is not text")
    return Report(name, message["value"], subjects, unit, _texts(parameters))


def _texts(parameters: dict[Key, Value]) -> dict[str, Value]:
    if not all(isinstance(key, str) for key in parameters):
        raise MalformedError("channel.report", "a parameter's name is not text")
    return {str(key): value for key, value in parameters.items()}


def _keep(report: Report, reports: dict[bytes, Report]) -> None:
    key = encode([report.name, report.on, cast("Encodable", report.parameters)])
    if key in reports:
        message = f"{report.name} was already reported; tell them apart with parameters"
        raise MalformedError("channel.twice", message)
    reports[key] = report


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
    try:
        connection.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    except (BrokenPipeError, ConnectionResetError):
        return  # the workload did not wait for the answer; the next read ends the service
