"""Frames on a stream socket: four bytes of big-endian length, then that many bytes."""

import socket

from laminator.errors import MalformedError

LENGTH_BYTES = 4


def send_frame(connection: socket.socket, body: bytes, receiver: str) -> None:
    """Send one frame. Raises MalformedError, naming `receiver`, where it has hung up."""
    try:
        connection.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _ended(receiver) from error


def receive_frame(connection: socket.socket, limit: int, sender: str) -> bytes:
    """Return the next frame's body, at most `limit` bytes.

    Raises MalformedError, naming `sender`, for a longer frame (before it is read) and where the
    stream ends.
    """
    size = int.from_bytes(_receive_exactly(connection, LENGTH_BYTES, sender), "big")
    if size > limit:
        message = f"{sender} sends {size} bytes, expected at most {limit}"
        raise MalformedError("frame.size", message)
    return _receive_exactly(connection, size, sender)


def _receive_exactly(connection: socket.socket, size: int, sender: str) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            chunk = connection.recv(size - len(data))
        except ConnectionResetError as error:
            raise _ended(sender) from error
        if not chunk:
            raise _ended(sender)
        data += chunk
    return bytes(data)


def _ended(other: str) -> MalformedError:
    message = f"{other} ended before it had answered; what it said is on stderr"
    return MalformedError("frame.ended", message)
