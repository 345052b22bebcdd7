"""swtpm as a child of its owner, over two socket pairs that nobody else can open.

There is no socket in the file system: one pair carries commands at locality 0, the other the
control channel, which chooses localities and does a dynamic launch. When this process ends,
however it ends, swtpm loses its command channel and ends too.
"""

import socket
import struct
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from enclave_sim import commands
from laminator.errors import MachineError
from laminator.programs import find_program

LAUNCH_PCR = 17
MAX_MESSAGE = 4096
HEADER = 10

_CMD_INIT = 2
_CMD_SHUTDOWN = 3
_CMD_HASH_START, _CMD_HASH_DATA, _CMD_HASH_END = 6, 7, 8
_HASH_CHUNK = 2048
_SECONDS = 30.0


class Swtpm:
    """A running software TPM; `exchange` may be called from several threads."""

    def __init__(self, state: Path, log: Path) -> None:
        """Start swtpm on the folder `state` and power it on. Raises MachineError."""
        program = find_program("swtpm")
        if program is None:
            raise MachineError("machine.swtpm", "no swtpm: install swtpm")
        self._lock = threading.Lock()
        self._data, data = socket.socketpair()
        self._control, control = socket.socketpair()
        words = [program, "socket", "--tpm2", "--tpmstate", f"dir={state},mode=0600"]
        words += ["--fd", str(data.fileno())]
        words += ["--ctrl", f"type=unixio,clientfd={control.fileno()}"]
        words += ["--flags", "not-need-init,startup-clear"]
        with data, control, log.open("ab") as errors:
            self._process = subprocess.Popen(
                words,
                pass_fds=(data.fileno(), control.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self._data.settimeout(_SECONDS)
        self._control.settimeout(_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut_power()

    @property
    def has_ended(self) -> bool:
        """Say whether the process is gone: a machine without power."""
        return self._process.poll() is not None

    def exchange(self, command: bytes) -> bytes:
        """Send one command and return its response. Raises MachineError where swtpm is gone."""
        with self._lock:
            try:
                self._data.sendall(command)
                return receive_message(self._data)
            except OSError as error:
                self._data.close()  # an answer that comes late would be taken for the next one's
                raise _gone(error) from error

    def connect(self) -> int:
        """Return a descriptor of the command channel itself; only for a lone user of it."""
        return self._data.dup().detach()

    def launch(self, preimage: bytes) -> bytes:
        """Do a dynamic launch of `preimage` and return PCR 17 after it, 32 bytes.

        PCRs 17 to 22 are reset, and PCR 17 becomes SHA-256(32 zero bytes || SHA-256(preimage)).
        """
        with self._lock:
            self._ask(_CMD_HASH_START)
            for start in range(0, len(preimage), _HASH_CHUNK):
                chunk = preimage[start : start + _HASH_CHUNK]
                self._ask(_CMD_HASH_DATA, struct.pack(">I", len(chunk)) + chunk)
            self._ask(_CMD_HASH_END)
        return commands.read_pcr(self.exchange, LAUNCH_PCR)

    def reset(self) -> None:
        """Reset the TPM as a reboot does: orderly shutdown, _TPM_Init, Startup(CLEAR)."""
        commands.shutdown(self.exchange)
        with self._lock:
            self._ask(_CMD_INIT, struct.pack(">I", 0))
        commands.startup(self.exchange)

    def power_off(self) -> None:
        """Shut down in order and end the process."""
        try:
            commands.shutdown(self.exchange)
        finally:
            self.cut_power()

    def cut_power(self) -> None:
        """End the process without a word to the TPM; again does nothing."""
        self._data.close()
        self._control.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, command: int, data: bytes = b"") -> None:
        try:
            self._control.sendall(struct.pack(">I", command) + data)
            answer = self._control.recv(4)
        except OSError as error:
            raise _gone(error) from error
        if answer != bytes(4):
            raise MachineError("machine.swtpm", f"swtpm refused control command {command}")


def receive_message(channel: socket.socket) -> bytes:
    """Return one TPM command or response; it says its length in bytes 2 to 6.

    Raises ConnectionError at the end of the channel and for a length that cannot be.
    """
    header = _receive(channel, HEADER)
    size = int.from_bytes(header[2:6], "big")
    if not HEADER <= size <= MAX_MESSAGE:
        raise ConnectionError(f"a message of {size} bytes")
    return header + _receive(channel, size - HEADER)


def _receive(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            raise ConnectionError("the channel has ended")
        data += part
    return bytes(data)


def _gone(error: OSError) -> MachineError:
    return MachineError(
        "machine.swtpm",
        f"the software TPM does not answer ({error}); stop the machine and start it again",
    )
