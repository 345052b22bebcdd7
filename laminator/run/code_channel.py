"""The attester's end of the channel on which a workload's bootstrap names its code.

One packet is one record (`laminator.run.bootstrap`): a byte for the event, 32 bytes of SHA-256,
the name in UTF-8. There are no replies: a packet has left the workload when its send has returned,
whatever becomes of the workload then. A thread of its own puts each record into the log; nobody
else may append to that log until the block is left. A packet that is malformed, one too many, and
names that no honest bootstrap sends fail the run: MalformedError when the block is left.
"""

import os
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from laminator.errors import MalformedError
from laminator.eventlog import MAX_RECORDS, Record
from laminator.run.bootstrap import EVENTS, MAX_NAME
from laminator.run.log import RunLog

MAX_PACKET = 1 + 32 + 4 * MAX_NAME
MAX_CODE_RECORDS = MAX_RECORDS // 2
_DIGEST_END = 33


def parse_packet(packet: bytes) -> Record:
    """Parse one packet. Raises MalformedError."""
    if len(packet) <= _DIGEST_END or packet[0] >= len(EVENTS):
        raise MalformedError("code.packet", f"{len(packet)} bytes that are no record of code")
    try:
        name = packet[_DIGEST_END:].decode()
    except UnicodeDecodeError as error:
        raise MalformedError("code.packet", "a name that is not UTF-8") from error
    if len(name) > MAX_NAME or not name.isprintable():
        raise MalformedError("code.packet", "a name that is too long, or not printable")
    return Record(EVENTS[packet[0]], name, packet[1:_DIGEST_END])


@contextmanager
def code_channel(log: RunLog) -> Iterator[socket.socket]:
    """Give the workload's end of a channel whose records go to `log`, each in its turn.

    The caller closes its copy of that end when the workload has it. On leaving, what has arrived
    is in the log. Raises MalformedError, MachineError then, and whatever else ended the reading.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stop = os.eventfd(0, os.EFD_CLOEXEC)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_receive_all, ours, stop, log)
        try:
            yield theirs
        finally:
            os.eventfd_write(stop, 1)
            wait([reading])
            os.close(stop)
            ours.close()
            theirs.close()
    reading.result()


def _receive_all(ours: socket.socket, stop: int, log: RunLog) -> None:
    """Log packets until the other end is closed everywhere, or all is read after `stop`.

    Whatever goes wrong hangs up, so that no code runs whose record nobody reads.
    """
    try:
        for _ in range(MAX_CODE_RECORDS):
            packet = _next_packet(ours, stop)
            if packet is None:
                return
            log.append(parse_packet(packet))
        message = f"the workload named more than {MAX_CODE_RECORDS} pieces of code"
        raise MalformedError("code.count", message)
    finally:
        ours.close()


def _next_packet(ours: socket.socket, stop: int) -> bytes | None:
    """Return the next packet, None at the end: a packet may be empty while its sender goes on."""
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    poll.register(stop, select.POLLIN)
    ready = dict(poll.poll())
    try:
        packet = ours.recv(MAX_PACKET + 1, socket.MSG_DONTWAIT)
    except (BlockingIOError, ConnectionResetError):
        return None
    hung_up = ready.get(ours.fileno(), 0) & select.POLLHUP
    return None if not packet and hung_up else packet
