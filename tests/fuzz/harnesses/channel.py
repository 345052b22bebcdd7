"""The workload's channel: what a measured workload may say to the attester that serves it."""

import contextlib
import os
import socket

from harnesses.harness import Harness, parsed
from harnesses.mutation import LENGTH_BYTES, mutate_as_frames
from laminator.cbor import Encodable, decode, encode
from laminator.claims import Property
from laminator.claims_codec import parse_property, plain_property
from laminator.run.channel import Names, serve

NAMES = Names({"train": "/data/train.csv"}, {"model": "/out/model.bin"})
MAX_STREAM = 64 * 1024
_REPORT: dict[str, Encodable] = {
    "op": "report",
    "name": "loss",
    "value": 0.5,
    "on": ["train"],
    "unit": "nat",
    "parameters": {"epoch": 1},
}


def check(data: bytes) -> bool:
    """Every whole message gets one reply, and nothing but the workload's own word gets through."""
    if len(data) > MAX_STREAM:
        return False
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        statements = parsed(lambda _: _serve(theirs), data)
        theirs.close()
        replies = _replies(ours)
    for statement in statements or ():
        _check_statement(statement)
    reported = sum(reply == {"ok": None} for reply in replies)
    assert statements is None or len(statements) == reported
    return statements is not None and all("ok" in reply for reply in replies)


def seeds() -> list[bytes]:
    """Return the streams of workloads that ask for paths and report."""
    asked = [{"op": "input", "name": "train"}, {"op": "output", "name": "model"}]
    nested = {**_REPORT, "value": [1, {"deep": "é"}, None, True], "unit": None}
    return [b"", _stream(*asked), _stream(_REPORT), _stream(*asked, _REPORT, nested | {"on": []})]


def _stream(*messages: Encodable) -> bytes:
    frames = map(encode, messages)
    return b"".join(len(frame).to_bytes(LENGTH_BYTES, "big") + frame for frame in frames)


def _serve(connection: socket.socket) -> tuple[Property, ...]:
    ended = os.eventfd(0)
    try:
        return serve(connection, NAMES, ended)
    finally:
        os.close(ended)


def _replies(connection: socket.socket) -> list[dict[object, object]]:
    """Return the replies, each whole, a map, and short."""
    data, replies = _received(connection), []
    while data:
        end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
        assert LENGTH_BYTES < end <= len(data)
        reply = decode(data[LENGTH_BYTES:end])
        assert isinstance(reply, dict)
        assert set(reply) in ({"ok"}, {"refused", "message"})
        assert end < 4096
        replies.append(dict[object, object](reply))
        data = data[end:]
    return replies


def _received(connection: socket.socket) -> bytes:
    """Return what arrived; the end is a reset where messages were left unread."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            data += chunk
    return data


def _check_statement(statement: Property) -> None:
    assert (statement.source, statement.measurer) == ("reported", "workload")
    assert set(statement.on) <= {"train", "model"}
    assert (statement.interval, statement.adversary) == (None, None)
    plain = decode(encode(plain_property(statement)))
    assert parse_property(plain, "property") == statement


HARNESS = Harness(check, seeds, mutate_as_frames, ("op", "input", "output", "report", "refused"))
