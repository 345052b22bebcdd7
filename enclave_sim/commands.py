"""The few TPM commands that firmware and owner send, as bytes over a channel.

Source: TPM 2.0 Library Specification, Part 3 (the clause of each command is at its function) and
Part 1, 18 (sessions). Authorisations are passwords: the channel does not leave this process.
"""

from collections.abc import Callable
from typing import NamedTuple

from laminator.errors import MachineError
from laminator.evidence.tpm_structures import ClockInfo, NvPublic, marshal_nv_public
from laminator.evidence.tpm_wire import ALG_SHA256, sized, uint16, uint32, uint64

Exchange = Callable[[bytes], bytes]
"""Sends a command to the TPM and returns its response."""

RH_OWNER = 0x40000001
RH_LOCKOUT = 0x4000000A
RH_ENDORSEMENT = 0x4000000B
RH_PLATFORM = 0x4000000C
SU_CLEAR = 0x0000

_RS_PW = 0x40000009
_ST_NO_SESSIONS, _ST_SESSIONS = 0x8001, 0x8002
_FAILURE_MODE = 0x101
_HEADER = 10
_NV_CHUNK = 512
_CAP_HANDLES = 1
_MAX_HANDLES = 64
_TRANSIENT, _HMAC_SESSION, _POLICY_SESSION = 0x80000000, 0x02000000, 0x03000000


class Refusal(MachineError):  # noqa: N818 - a TPM's word, not a failure of ours
    """The TPM answered with an error; `response` is its code."""

    def __init__(self, response: int) -> None:
        message = f"the machine's TPM refused with {response:#x}"
        if response == _FAILURE_MODE:
            message = (
                "the machine's TPM failed, as it does where its state cannot be written: make room "
                "on the disk of the machine's folder; its owner.log says more"
            )
        super().__init__("machine.tpm", message)
        self.response = response


class Clock(NamedTuple):
    """What TPM2_ReadClock says: milliseconds since start, and the clock."""

    time: int
    info: ClockInfo


def startup(tpm: Exchange) -> None:
    """TPM2_Startup(CLEAR), 9.3."""
    _command(tpm, 0x144, uint16(SU_CLEAR))


def shutdown(tpm: Exchange) -> None:
    """TPM2_Shutdown(CLEAR), 9.4."""
    _command(tpm, 0x145, uint16(SU_CLEAR))


def change_hierarchy_auth(tpm: Exchange, hierarchy: int, old: bytes, new: bytes) -> None:
    """TPM2_HierarchyChangeAuth, 24.8."""
    _authorised(tpm, 0x129, (hierarchy,), old, sized(new))


def define_nv(tpm: Exchange, public: NvPublic, platform: bytes) -> None:
    """TPM2_NV_DefineSpace by the platform with an empty auth, 31.3."""
    area = sized(b"") + sized(marshal_nv_public(public))
    _authorised(tpm, 0x12A, (RH_PLATFORM,), platform, area)


def write_nv(tpm: Exchange, index: int, data: bytes, platform: bytes) -> None:
    """TPM2_NV_Write by the platform, in pieces, 31.7."""
    for offset in range(0, len(data), _NV_CHUNK):
        piece = sized(data[offset : offset + _NV_CHUNK]) + uint16(offset)
        _authorised(tpm, 0x137, (RH_PLATFORM, index), platform, piece)


def read_pcr(tpm: Exchange, pcr: int) -> bytes:
    """TPM2_PCR_Read of one PCR of the SHA-256 bank, 22.4; 32 bytes."""
    bitmap = (1 << pcr).to_bytes(3, "little")
    answer = _command(tpm, 0x17E, uint32(1) + uint16(ALG_SHA256) + b"\x03" + bitmap)
    return answer[-32:]


def read_clock(tpm: Exchange) -> Clock:
    """TPM2_ReadClock, 29.1."""
    answer = _command(tpm, 0x181, b"")
    fields = [answer[0:8], answer[8:16], answer[16:20], answer[20:24], answer[24:25]]
    time, clock, resets, restarts, safe = (int.from_bytes(field, "big") for field in fields)
    return Clock(time, ClockInfo(clock, resets, restarts, safe == 1))


def set_clock(tpm: Exchange, clock: int, platform: bytes) -> None:
    """TPM2_ClockSet to `clock` milliseconds, 29.2."""
    _authorised(tpm, 0x128, (RH_PLATFORM,), platform, uint64(clock))


def flush_all(tpm: Exchange) -> None:
    """TPM2_FlushContext (28.4) of every transient object and loaded session."""
    for kind in (_TRANSIENT, _HMAC_SESSION, _POLICY_SESSION):
        for handle in _handles(tpm, kind):
            _command(tpm, 0x165, uint32(handle))


def _handles(tpm: Exchange, first: int) -> list[int]:
    """TPM2_GetCapability of handles, 30.2."""
    answer = _command(tpm, 0x17A, uint32(_CAP_HANDLES) + uint32(first) + uint32(_MAX_HANDLES))
    count = int.from_bytes(answer[5:9], "big")
    found = [answer[9 + 4 * i : 13 + 4 * i] for i in range(count)]
    handles = [int.from_bytes(handle, "big") for handle in found]
    return [handle for handle in handles if handle >> 24 == first >> 24]


def _authorised(
    tpm: Exchange, code: int, handles: tuple[int, ...], auth: bytes, parameters: bytes
) -> bytes:
    password = uint32(_RS_PW) + sized(b"") + b"\x00" + sized(auth)
    named = b"".join(map(uint32, handles))
    return _send(tpm, _ST_SESSIONS, code, named + uint32(len(password)) + password + parameters)


def _command(tpm: Exchange, code: int, body: bytes) -> bytes:
    return _send(tpm, _ST_NO_SESSIONS, code, body)


def _send(tpm: Exchange, tag: int, code: int, body: bytes) -> bytes:
    answer = tpm(uint16(tag) + uint32(_HEADER + len(body)) + uint32(code) + body)
    response = int.from_bytes(answer[6:_HEADER], "big")
    if response != 0:
        raise Refusal(response)
    return answer[_HEADER:]
