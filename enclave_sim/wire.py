"""The owner's socket: one JSON object and its descriptors in each packet (SOCK_SEQPACKET).

The socket lies in the machine's folder. A Unix socket's address has at most 107 bytes, so both
ends reach it through a descriptor of the folder, however long its path is.
"""

import array
import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from enclave_sim.folder import Folder
from laminator.errors import LaminatorError, MalformedError

SOCKET_NAME = "owner.sock"
MAX_PACKET = 128 * 1024
MAX_DESCRIPTORS = 8

READY = b"ready\n"
OWNED = b"owned\n"
"""What a starting owner says when it can be used, and when it finds another one at work."""

KEPT_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "TERM", "TZ")
"""What an attester gets of its caller's environment: nothing that decides which code runs or where
copies lie. The workload's own environment travels in the request."""

Message = dict[str, Any]


class Packet(NamedTuple):
    """A message with the descriptors that came with it; the receiver closes them."""

    message: Message
    descriptors: tuple[int, ...]


@contextlib.contextmanager
def address(folder: Folder) -> Iterator[str]:
    """Yield a short path of the owner's socket that holds inside the block."""
    descriptor = os.open(folder.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(Path(f"/proc/self/fd/{descriptor}", SOCKET_NAME))
    finally:
        os.close(descriptor)


def listen(folder: Folder) -> socket.socket:
    """Return the owner's listening socket; a stale one of a dead owner is replaced."""
    (folder.root / SOCKET_NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with address(folder) as path:
        listener.bind(path)
    listener.listen()
    return listener


def connect(folder: Folder) -> socket.socket:
    """Return a connection to the owner. Raises OSError where there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with address(folder) as path:
            connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one packet. Raises OSError."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    connection.sendmsg([json.dumps(message).encode()], rights if descriptors else [])


def receive(connection: socket.socket) -> Packet | None:
    """Return the next packet, None at the end. Raises MalformedError, OSError."""
    data, descriptors, flags, _ = socket.recv_fds(connection, MAX_PACKET, MAX_DESCRIPTORS)
    if not data:
        return None
    try:
        return Packet(_parsed(data, flags), tuple(descriptors))
    except MalformedError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _parsed(data: bytes, flags: int) -> Message:
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise MalformedError("machine.packet", "a packet that is too large")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedError("machine.packet", "a packet that is not JSON") from error
    if not isinstance(message, dict):
        raise MalformedError("machine.packet", "a packet that is no object")
    return message


def error_message(error: LaminatorError) -> Message:
    """Return the message that carries an error to the other side."""
    return {"error": {"code": error.code, "message": error.message}}
