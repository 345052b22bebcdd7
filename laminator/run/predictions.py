"""The measurer's end of the channel to the model's process: features out, scores back.

Each frame (`laminator.run.frames`) is deterministic CBOR. The model's process speaks first, once
the model is loaded, then answers each batch:

    {"classes": [* tstr] / null}
    {"columns": [* [name, kind, shape, content]], "tag": bytes}    from here
    {"shape": [rows] / [rows, classes], "scores": bytes, "tag": bytes}    64-bit floats

`kind` is a NumPy element, text or image; the floats are little-endian. The tag is 16 random bytes,
drawn for this batch, so no answer can be for another batch, or made before its question.

The rows go out in an order drawn afresh for each evaluation, and that order never leaves this
process. What comes back is the other side's word: bounded before it is read, and nothing but
scores of the asked shape gets through. No object is ever unpickled.
"""

import secrets
import socket
import sys
from array import array
from collections.abc import Iterator, Sequence

from laminator.cbor import Encodable, Key, Value, decode, encode
from laminator.errors import MalformedError, shown
from laminator.measure.columns import Column, ImageColumn, NumberColumn
from laminator.measure.dataset import MAX_CLASSES
from laminator.properties.decision import Scores
from laminator.run.frames import receive_frame, send_frame
from laminator.seed import SEED_BYTES, shuffled

MODEL = "the model's process"
MAX_HELLO_BYTES = 1024 * 1024
MAX_CLASS_NAME = 256
BATCH_ROWS = 1024
BATCH_BYTES = 16 * 1024**2
_SCORE_BYTES = 8
# So many scores a row are read where fewer are expected, to say how many there are.
_CLASSES_READ = 1024
_REPLY_OVERHEAD = 128
_TAG_BYTES = 16


def receive_classes(connection: socket.socket) -> tuple[str, ...] | None:
    """Return the classes that the model's code names, in the order of its scores, or None.

    Raises MalformedError, also where the model's process ends before it has loaded.
    """
    message = _receive(connection, MAX_HELLO_BYTES)
    if set(message) != {"classes"}:
        raise MalformedError("model.hello", "expected the classes first")
    match message["classes"]:
        case None:
            return None
        case tuple(names) if all(_is_class_name(name) for name in names):
            pass
        case other:
            raise MalformedError("model.classes", f"CLASSES is {shown(other)}")
    if not 1 < len(names) <= MAX_CLASSES or len(set(names)) != len(names):
        reason = f"CLASSES must hold 2 to {MAX_CLASSES} different names"
        raise MalformedError("model.classes", reason)
    return tuple(map(str, names))


def ask(
    connection: socket.socket,
    features: Sequence[Column],
    classes: int,
    rows: Sequence[int] | None = None,
    seed: bytes = b"",
) -> Scores:
    """Return the model's scores of `rows` (indices into the data; None for all), in their order.

    They are sent in an order that follows the run's `seed` and a fresh secret: a model's code that
    knows the order may know the labels. Raises MalformedError for any answer that is not `classes`
    finite scores a row (or one), or not to this batch, and where the model's process ends early.
    """
    rows = range(len(features[0])) if rows is None else rows
    order = shuffled(len(rows), seed, secrets.token_bytes(SEED_BYTES))
    width: int | None = None
    answers: list[tuple[Sequence[int], array[float]]] = []
    for batch in _batches(features, order):
        sent = [rows[place] for place in batch]
        tag = secrets.token_bytes(_TAG_BYTES)
        send_frame(connection, _batch_message(features, sent, tag), MODEL)
        limit = len(batch) * max(classes, _CLASSES_READ) * _SCORE_BYTES + _REPLY_OVERHEAD
        reply = _receive(connection, limit)
        found, scores = _parse_scores(reply, len(batch), tag)
        if answers and found != width:
            raise MalformedError("model.scores", "batches differ in the shape of their scores")
        width = found
        answers.append((batch, scores))
    return _in_data_order(answers, len(rows), width)


def _batches(features: Sequence[Column], order: Sequence[int]) -> Iterator[Sequence[int]]:
    row_bytes = sum(column.largest_row for column in features)
    size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _batch_message(features: Sequence[Column], rows: Sequence[int], tag: bytes) -> bytes:
    columns: list[Encodable] = []
    for column in features:
        if isinstance(column, NumberColumn):
            columns.append([column.name, column.element, column.shape, column.take(rows)])
        else:
            kind = "image" if isinstance(column, ImageColumn) else "text"
            columns.append([column.name, kind, [], column.take(rows)])
    return encode({"columns": columns, "tag": tag})


def _parse_scores(
    message: dict[Key, Value], rows: int, tag: bytes
) -> tuple[int | None, "array[float]"]:
    """Return (scores in each row, or None for one; the scores)."""
    shape, packed = message.get("shape"), message.get("scores")
    if set(message) != {"shape", "scores", "tag"} or not isinstance(packed, bytes):
        reason = f"expected shape, scores and tag, got {shown(message)}"
        raise MalformedError("model.scores", reason)
    if message["tag"] != tag:
        raise MalformedError("model.tag", "the answer does not carry the tag of the batch asked")
    width: int | None
    match shape:
        case (int(found),):
            width = None
        case (int(found), int(width)):
            pass
        case _:
            raise MalformedError("model.scores", f"scores of shape {shown(shape)}")
    if found != rows:
        raise MalformedError("model.scores", f"scores for {found} rows, expected {rows}")
    if len(packed) != rows * (1 if width is None else width) * _SCORE_BYTES:
        raise MalformedError("model.scores", f"{len(packed)} bytes for shape {shown(shape)}")
    scores = array("d", packed)
    if sys.byteorder == "big":
        scores.byteswap()
    return width, scores


def _in_data_order(
    answers: Sequence[tuple[Sequence[int], "array[float]"]], rows: int, width: int | None
) -> Scores:
    step = 1 if width is None else width
    values = array("d", bytes(rows * step * _SCORE_BYTES))
    for batch, scores in answers:
        for place, row in enumerate(batch):
            values[row * step : (row + 1) * step] = scores[place * step : (place + 1) * step]
    return Scores(rows, width, values)


def _is_class_name(value: Value) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_CLASS_NAME


def _receive(connection: socket.socket, limit: int) -> dict[Key, Value]:
    value = decode(receive_frame(connection, limit, MODEL), max_bytes=limit)
    if not isinstance(value, dict):
        raise MalformedError("model.message", "expected a map")
    return value
