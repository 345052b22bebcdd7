"""JSON of other processes: the owner's setup and packets, and the user's list of runs."""

import json
import socket
import tempfile
from pathlib import Path

from enclave_sim import wire
from harnesses.harness import Harness, parsed
from laminator.attest.auths import HierarchyAuths
from laminator.claims import Launch
from laminator.digest import sha256
from laminator.run.run_list import Entry, entries
from laminator.run.setup import Setup, encode_setup, parse_setup

WORDS = ('"fd"', '"tcti"', '"auth"', '"launch"', "null", "true", "1e999", "\\ud800", '"ticket"')


def check(data: bytes) -> bool:
    """A setup that parses is the same after writing; a list of runs is read as far as it is one."""
    setup = parsed(parse_setup, data)
    if setup is not None:
        assert parse_setup(encode_setup(setup)) == setup
    found = _entries(data)
    packet = parsed(_packet, data)
    assert packet is None or isinstance(packet.message, dict)
    assert all(entry.ticket == "ticket" for entry in found)
    return setup is not None or bool(found)


def seeds() -> list[bytes]:
    """Return the setups of both kinds of machine, and a list of runs."""
    auths = HierarchyAuths(endorsement=b"e", owner=b"", counter=b"c" * 32)
    launched = Launch("drtm-simulated", sha256(b"attester"))
    simulated = Setup(3, auths, 0x01801A4D, launched, 4, (b"der",), simulated=True)
    hardware = Setup("device:/dev/tpmrm0", auths, 1, Launch("none"), None, None, simulated=False)
    started = Entry("started", "ticket", "0f" * 16, 1, "/c")
    lines = [started, started._replace(event="ended", outcome="card")]
    ledger = "".join(json.dumps(line._asdict()) + "\n" for line in lines)
    return [encode_setup(simulated), encode_setup(hardware), ledger.encode()]


def _packet(data: bytes) -> wire.Packet | None:
    """Return what the machine's owner reads in a packet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(data)
        ours.close()
        return wire.receive(theirs)


def _entries(data: bytes) -> tuple[Entry, ...]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return entries(Path(file.name), "ticket")


HARNESS = Harness(check, seeds, words=WORDS)
