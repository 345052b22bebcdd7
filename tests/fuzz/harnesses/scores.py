"""The model's process as the measurer hears it: frames, classes, scores, decisions."""

import socket
import struct
from unittest.mock import patch

from harnesses.harness import Harness, parsed
from harnesses.mutation import LENGTH_BYTES, mutate_as_frames
from laminator.cbor import encode
from laminator.measure.csv_table import column
from laminator.properties.decision import decide
from laminator.run.predictions import ask, receive_classes

ROWS = 3
MAX_STREAM = 64 * 1024
_FEATURES = [column("x", ("1", "2", "3")), column("t", ("a", "b", ""))]


def check(data: bytes) -> bool:
    """Nothing but a decision for each row comes out of what the model's process says."""
    if len(data) > MAX_STREAM:
        return False
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with patch("secrets.token_bytes", bytes):  # each batch's tag is known: zeros
            return bool(parsed(lambda _: _measure(ours), data))


def seeds() -> list[bytes]:
    """Return what honest model processes say for three rows."""
    pairs, singles = struct.pack("<6d", 0, 1, 1, 0, 0.5, 0.5), struct.pack("<3d", 0, 0.5, 1)
    two = encode({"shape": [ROWS, 2], "scores": pairs, "tag": bytes(16)})
    one = encode({"shape": [ROWS], "scores": singles, "tag": bytes(16)})
    hello = encode({"classes": ["no", "yes"]})
    unnamed = encode({"classes": None})
    return [_stream(hello, two), _stream(hello, one), _stream(unnamed, two)]


def _measure(connection: socket.socket) -> bool:
    classes = receive_classes(connection)
    if classes is not None:
        assert len(set(classes)) == len(classes) > 1
    number = 2 if classes is None else len(classes)
    scores = ask(connection, _FEATURES, number)
    assert scores.rows == ROWS
    chosen, rule = decide(scores, number)
    assert len(chosen) == ROWS
    assert all(0 <= index < number for index in chosen)
    return bool(rule)


def _stream(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(LENGTH_BYTES, "big") + frame for frame in frames)


HARNESS = Harness(check, seeds, mutate_as_frames, ("classes", "shape", "scores", "tag"))
