"""The measurer's process: holds the labels, asks the model's process, computes the properties.

It runs from the attester's own measured code, in a sandbox of its own that has the data and
nothing of the model, and is not dumpable: no other process reads its memory. It needs the
standard library, laminator and cbor2. Orders come from the attester and the result goes back to
it on one socket, a frame each (`laminator.run.frames`); the model's process is on another:

    {"properties": [* property]} / {"error": [code, message], "usage": bool}
"""

import socket
from collections.abc import Sequence
from pathlib import Path

from laminator.cbor import Encodable, Key, Value, decode, encode
from laminator.claims import Property
from laminator.claims_codec import parse_property, plain_property
from laminator.errors import LaminatorError, MalformedError, UsageError
from laminator.fields import MAX_TEXT, Fields, array, flag, text
from laminator.measure.dataset import class_order, load_columns, load_labels, split
from laminator.properties import MEASURERS
from laminator.properties.decision import decide, index_labels
from laminator.properties.performance import Choices, Setting
from laminator.run.dumpable import make_undumpable
from laminator.run.frames import receive_frame, send_frame
from laminator.run.measurement import (
    MAX_ORDERS_BYTES,
    Copied,
    Orders,
    chosen_parameters,
    parse_orders,
)
from laminator.run.predictions import ask, receive_classes
from laminator.seed import draw_rows

ATTESTER = "the attester"
MAX_RESULT_BYTES = 4 * 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Measure: `arguments` are the descriptors of the attester's and the model's sockets."""
    make_undumpable()
    attester, model = (socket.socket(fileno=int(descriptor)) for descriptor in arguments)
    with attester, model:
        orders = receive_frame(attester, MAX_ORDERS_BYTES, ATTESTER)
        send_frame(attester, encode(obey(orders, model)), ATTESTER)
    return 0


def obey(orders: bytes, model: socket.socket) -> dict[Key, Encodable]:
    """Return the result of the attester's orders: the properties, or the error."""
    try:
        properties = measure(parse_orders(orders), model)
    except LaminatorError as error:
        words = [error.code, error.message[:MAX_TEXT]]
        return {"error": words, "usage": isinstance(error, UsageError)}
    return {"properties": list(map(plain_property, properties))}


def parse_result(data: bytes) -> tuple[Property, ...]:
    """Return the properties in a measurer's result.

    Raises what the measurer raised (UsageError, MalformedError), and MalformedError for a result
    that is none.
    """
    value = decode(data, max_bytes=MAX_RESULT_BYTES)
    fields = Fields(value, "result")
    if isinstance(value, dict) and "error" in value:
        code, message = fields.take("error", array(text, least=2, most=2))
        usage = fields.take("usage", flag)
        raise (UsageError if usage else MalformedError)(code, message)
    properties = fields.take("properties", array(parse_property))
    fields.close()
    return properties


def measure(orders: Orders, model: socket.socket) -> tuple[Property, ...]:
    """Read the data, ask the model's process for scores and compute the properties.

    The bytes that are read are held against the digests in the orders: whoever changed a private
    copy after the attester had measured it gets no measurement. Raises MalformedError for data and
    answers that are not what they should be, UsageError for orders that do not fit the data.
    """
    what = orders.measurement
    labels = () if orders.labels is None else _labels(orders.labels, what.labels_suffix)
    data = orders.data
    columns = load_columns(Path(data.path), what.data_suffix, what.header, data.digest)
    examples = split(columns, what.roles, labels)
    named = receive_classes(model)
    classes = named or class_order(examples.labels)
    if len(classes) == 1:
        message = "the data has one label only: name all classes in the model code's CLASSES"
        raise UsageError("labels.one-class", message)
    indices, rows = index_labels(examples.labels, classes), _rows(orders, len(examples.labels))
    scores = ask(model, examples.features, len(classes), rows, orders.seed or b"")
    chosen, rule = decide(scores, len(classes))
    model.close()
    parameters: dict[str, Value] = {
        **chosen_parameters(what),
        **({} if what.sample is None else {"seed": orders.rule}),
        "features": len(examples.features),
        "decision": rule,
        "classes": classes,
        "classes-from": "data" if named is None else "model",
    }
    setting = Setting(orders.on, parameters)
    groups = {key: [group[row] for row in rows] for key, group in examples.groups.items()}
    choices = Choices([indices[row] for row in rows], chosen, groups)
    return tuple(MEASURERS[name](choices, setting) for name in what.properties)


def _labels(copied: Copied, suffix: str) -> tuple[str, ...]:
    return load_labels(Path(copied.path), suffix, copied.digest)


def _rows(orders: Orders, rows: int) -> Sequence[int]:
    """Return the rows that are measured: all, or those that the seed draws. Raises UsageError."""
    sample = orders.measurement.sample
    if sample is None:
        return range(rows)
    if orders.seed is None:
        raise UsageError("evaluate.sample", "a sample without a seed: nobody could check the draw")
    if not 0 < sample <= rows:
        raise UsageError("evaluate.sample", f"cannot draw {sample} of the data's {rows} rows")
    return draw_rows(orders.seed, rows, sample)
