"""Runs by hand on a real software TPM (`lying_attester`), and how to switch that off and on."""

import socket
import struct

from raw_swtpm import RawSwtpm

from enclave_sim.adversary.lying_attester import *  # noqa: F403

_CONTROL_INIT = struct.pack(">II", 2, 0)
_STARTUP_CLEAR = bytes.fromhex("80010000000c000001440000")
_SHUTDOWN_CLEAR = bytes.fromhex("80010000000c000001450000")


def power_cycle(swtpm: RawSwtpm) -> None:
    """Do a TPM Reset in good order, so that the clock stays safe; nobody may be connected."""
    _command(swtpm, _SHUTDOWN_CLEAR)
    cut_power(swtpm)


def cut_power(swtpm: RawSwtpm) -> None:
    """Do a TPM Reset without a shutdown: the clock is not safe for some seconds."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(f"{swtpm.socket_path}.ctrl")
        control.sendall(_CONTROL_INIT)
        assert control.recv(4) == bytes(4)
    _command(swtpm, _STARTUP_CLEAR)


def _command(swtpm: RawSwtpm, command: bytes) -> None:
    with socket.socket(fileno=swtpm.connect()) as channel:
        channel.sendall(command)
        assert channel.recv(10)[6:] == bytes(4)
