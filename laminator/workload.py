"""What a script says and asks while Laminator runs it.

    from laminator import workload

    data = workload.input("train")              # a str path
    torch.manual_seed(workload.seed())          # where the run has --seed
    ...
    workload.hyperparameters({"epochs": 3, "lr": 0.1})
    workload.report("loss", 0.12, on=["train"], unit="nats")
    torch.save(state, workload.output("model"))

Everything said here is the workload's own word: the card calls it `reported`. The functions work
in a script that `laminator run` started, in its first process; elsewhere they raise UsageError.
"""

import math
import os
import socket
import threading
from collections.abc import Iterable, Mapping
from typing import cast

from laminator.cbor import Encodable, Key, Value, decode, encode
from laminator.errors import LaminatorError, MalformedError, UsageError, shown
from laminator.run.channel import CHANNEL_VARIABLE, LENGTH_BYTES, MAX_MESSAGE_BYTES

__all__ = [
    "ReportRefusedError",
    "hyperparameters",
    "input",
    "leaves",
    "output",
    "report",
    "seed",
]

_OWNER = os.getpid()
_lock = threading.Lock()
_connection: socket.socket | None = None


class ReportRefusedError(LaminatorError):
    """The attester refused what the workload said or asked; `code` says why."""


def input(name: str) -> str:  # noqa: A001 - the API's word, used as workload.input
    """Return the path of the input called `name`. Raises ReportRefusedError, UsageError."""
    return _path("input", name)


def leaves(name: str) -> tuple[str, str] | None:
    """Return the path of the leaves of the input called `name`, and its tree's digest as text.

    None for an input that was handed over as a private copy. `laminator.data` reads through them.
    Raises as `input` does.
    """
    answer = _ask({"op": "leaves", "name": name})
    return (str(answer[0]), str(answer[1])) if isinstance(answer, tuple) else None


def output(name: str) -> str:
    """Return the path to write the output called `name` to. Raises as `input` does."""
    return _path("output", name)


def seed() -> int:
    """Return the run's seed, an integer from 0 to 2**64 - 1: the same for the same rule and nonce.

    Raises ReportRefusedError where the run was started without `--seed`, UsageError.
    """
    return int(str(_ask({"op": "seed"})))


def report(
    name: str,
    value: object,
    on: Iterable[str] = (),
    unit: str | None = None,
    parameters: Mapping[str, object] | None = None,
) -> None:
    """State that the property `name` has `value`.

    `value` and parameters are numbers, text, booleans, None, lists and maps of these; one-element
    arrays and tensors count as numbers. `on` names inputs and outputs of the run.
    Raises UsageError for what cannot be stated, ReportRefusedError for what the attester refuses.
    """
    message: dict[Key, Encodable] = {
        "op": "report",
        "name": name,
        "value": _plain(value),
        "on": [on] if isinstance(on, str) else list(on),
        "unit": unit,
        "parameters": _plain(parameters or {}),
    }
    _ask(message)


def hyperparameters(values: Mapping[str, object]) -> None:
    """State the run's hyperparameters, once. Raises as `report` does."""
    report("hyperparameters", values)


def _path(operation: str, name: str) -> str:
    return str(_ask({"op": operation, "name": name}))


def _ask(message: dict[Key, Encodable]) -> Value:
    try:
        body = encode(message)
    except MalformedError as error:
        raise UsageError("workload.value", f"this cannot be stated: {error.message}") from error
    if len(body) > MAX_MESSAGE_BYTES:
        limit = f"the limit is {MAX_MESSAGE_BYTES}"
        raise UsageError("workload.size", f"{len(body)} bytes in one statement; {limit}")
    with _lock:
        connection = _connect()
        try:
            connection.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)
            reply = _receive(connection)
        except OSError as error:
            raise _closed() from error
    if "refused" in reply:
        raise ReportRefusedError(str(reply["refused"]), str(reply.get("message")))
    return reply.get("ok")


def _connect() -> socket.socket:
    global _connection  # noqa: PLW0603 - one process has one channel
    if os.getpid() != _OWNER:
        message = "only the script's first process can report; send the value there"
        raise UsageError("workload.process", message)
    if _connection is None:
        text = os.environ.get(CHANNEL_VARIABLE, "")
        if not text.isdigit():
            raise UsageError(
                "workload.bare",
                "this script was not started by Laminator, so there is no card to write to; "
                "start it with `laminator run --simulated -- python SCRIPT` "
                "(`laminator run --help` lists the options)",
            )
        try:
            _connection = socket.socket(fileno=int(text))
        except OSError as error:
            raise _closed() from error
    return _connection


def _closed() -> UsageError:
    return UsageError("workload.closed", "the channel to Laminator is closed; the run has failed")


def _receive(connection: socket.socket) -> dict[Key, Value]:
    size = int.from_bytes(_receive_exactly(connection, LENGTH_BYTES), "big")
    reply = decode(_receive_exactly(connection, size), max_bytes=MAX_MESSAGE_BYTES)
    return cast("dict[Key, Value]", reply)


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise _closed()
        data += chunk
    return bytes(data)


def _plain(value: object) -> Encodable:
    """Return `value` in the types that a card has."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _number(value)


def _number(value: object) -> bool | int | float:
    """Return `value`, or what its `item`, `__index__` or `__float__` gives, as a finite number."""
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except (TypeError, ValueError, RuntimeError) as error:
            message = f"expected one number, got {shown(value)}"
            raise UsageError("workload.value", message) from error
    if isinstance(value, bool | int):
        return value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError("workload.value", f"no number, text or map: {shown(value)}") from error
    if not math.isfinite(number):
        raise UsageError("workload.value", f"not a finite number: {number}")
    return number
