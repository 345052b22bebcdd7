"""A few harmless questions to a TPM, in raw commands: no TSS, no tpm2-pytss.

TPM 2.0 Part 3: GetCapability (30.2), StartAuthSession (11.1), PolicySecret (23.4), FlushContext
(28.4); properties: Part 2, 6.13 and 8.6 (TPMA_PERMANENT), 8.7 (TPMA_STARTUP_CLEAR).
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from laminator.errors import MachineError, shown
from laminator.evidence.tpm_wire import uint16, uint32

DEVICE = "/dev/tpmrm0"

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_GET_CAPABILITY, _START_AUTH_SESSION = 0x17A, 0x176
_POLICY_SECRET, _FLUSH_CONTEXT = 0x151, 0x165
_CAP_HANDLES, _CAP_PROPERTIES = 1, 6
_PT_MANUFACTURER, _PT_PERMANENT, _PT_STARTUP_CLEAR = 0x105, 0x200, 0x201
_RH_NULL, _RH_PLATFORM, _RS_PASSWORD = 0x4000_0007, 0x4000_000C, 0x4000_0009
_ALG_NULL, _ALG_SHA256 = 0x10, 0x0B
_TRIAL = 0x03
_NONCE = bytes(16)
_HEADER = 10
_MAX_RESPONSE = 4096
_SECONDS = 20
_AUTH_BITS = {"owner": 1 << 0, "endorsement": 1 << 1, "lockout": 1 << 2}
_PLATFORM_ENABLED = 1 << 0
_IN_LOCKOUT = 1 << 9


class TpmState(NamedTuple):
    """What a TPM says of itself. `empty_auths`: hierarchies whose secret nobody has set."""

    manufacturer: str
    empty_auths: tuple[str, ...]
    in_lockout: bool


class _Channel(Protocol):
    def ask(self, command: bytes) -> bytes: ...


class RawTpm:
    """Commands over a channel."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def state(self) -> TpmState:
        """Ask for what `TpmState` holds. Raises MachineError."""
        permanent = self._property(_PT_PERMANENT)
        empty = [name for name, bit in _AUTH_BITS.items() if not permanent & bit]
        if self._property(_PT_STARTUP_CLEAR) & _PLATFORM_ENABLED and self._platform_is_open():
            empty.append("platform")
        maker = uint32(self._property(_PT_MANUFACTURER)).decode("ascii", "replace")
        locked = bool(permanent & _IN_LOCKOUT)
        return TpmState(maker.strip("\x00 "), tuple(empty), locked)

    def has_handle(self, handle: int) -> bool:
        """Say whether an NV index or persistent object of this handle exists."""
        answer = self._capability(_CAP_HANDLES, handle)
        return answer[:4] == uint32(1) and answer[4:8] == uint32(handle)

    def _property(self, which: int) -> int:
        answer = self._capability(_CAP_PROPERTIES, which)
        if answer[4:8] != uint32(which):
            raise MachineError("doctor.tpm", f"the TPM does not tell property {which:#x}")
        return int.from_bytes(answer[8:12], "big")

    def _capability(self, capability: int, first: int) -> bytes:
        body = uint32(capability) + uint32(first) + uint32(1)
        # moreData and the capability itself precede the list.
        return self._must(_GET_CAPABILITY, body)[5:]

    def _platform_is_open(self) -> bool:
        """Try the empty secret of the platform, which no lockout counts, in a trial session."""
        start = uint32(_RH_NULL) * 2 + uint16(len(_NONCE)) + _NONCE + uint16(0)
        start += bytes([_TRIAL]) + uint16(_ALG_NULL) + uint16(_ALG_SHA256)
        session = self._must(_START_AUTH_SESSION, start)[:4]
        try:
            empty = uint32(_RS_PASSWORD) + uint16(0) + bytes([0]) + uint16(0)
            body = uint32(_RH_PLATFORM) + session + uint32(len(empty)) + empty
            body += uint16(0) * 3 + uint32(0)
            code, _ = self._do(_SESSIONS, _POLICY_SECRET, body)
        finally:
            self._must(_FLUSH_CONTEXT, session)
        return code == 0

    def _must(self, command: int, body: bytes) -> bytes:
        code, answer = self._do(_NO_SESSIONS, command, body)
        if code != 0:
            raise MachineError("doctor.tpm", f"the TPM answers command {command:#x} with {code:#x}")
        return answer

    def _do(self, tag: int, command: int, body: bytes) -> tuple[int, bytes]:
        head = uint16(tag) + uint32(_HEADER + len(body)) + uint32(command)
        answer = self._channel.ask(head + body)
        if len(answer) < _HEADER:
            raise MachineError("doctor.tpm", "the TPM's answer is too short")
        return int.from_bytes(answer[6:_HEADER], "big"), answer[_HEADER:]


@contextlib.contextmanager
def open_tpm(tcti: str) -> Iterator[RawTpm]:
    """Open the TPM of a TCTI string: ``device:PATH`` or ``swtpm:path=SOCKET``.

    Raises MachineError where it cannot be opened, and for another TCTI.
    """
    kind, _, configuration = tcti.partition(":")
    if kind == "device":
        opened = _device(configuration or DEVICE)
    elif kind == "swtpm" and configuration.startswith("path="):
        opened = _socket(configuration.removeprefix("path="))
    else:
        message = f"TCTI {shown(tcti)} is not looked into: only device: and swtpm:path="
        raise MachineError("doctor.tcti", message)
    with opened as channel:
        try:
            yield RawTpm(channel)
        except OSError as error:
            raise MachineError(
                "doctor.tpm", f"the TPM does not answer: {error.strerror}"
            ) from error


class _DeviceChannel:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ask(self, command: bytes) -> bytes:
        os.write(self._descriptor, command)
        return os.read(self._descriptor, _MAX_RESPONSE)


class _SocketChannel:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def ask(self, command: bytes) -> bytes:
        self._connection.sendall(command)
        return self._connection.recv(_MAX_RESPONSE)


@contextlib.contextmanager
def _device(path: str) -> Iterator[_Channel]:
    try:
        descriptor = os.open(Path(path), os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MachineError("doctor.tpm", f"{shown(path)}: {error.strerror}") from error
    try:
        yield _DeviceChannel(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _socket(path: str) -> Iterator[_Channel]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(path)
        except OSError as error:
            raise MachineError("doctor.tpm", f"{shown(path)}: {error.strerror}") from error
        yield _SocketChannel(connection)
