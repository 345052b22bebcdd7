"""A TPM behind a connected socket: raw commands and responses, nothing around them.

The simulated machine's owner hands its attester one end of a socket pair and forwards what
comes through it to the TPM's command port at locality 0. A response says its own length in
bytes 2 to 6 (TPM 2.0 Part 1, 18.1: tag, responseSize, responseCode).
"""

import socket

from tpm2_pytss import TSS2_RC, PyTCTI, TSS2_Exception

_HEADER_BYTES = 10
_MAX_RESPONSE_BYTES = 4096


class RelayTcti(PyTCTI):  # type: ignore[misc]  # tpm2-pytss carries no types
    """A TCTI over the connected stream socket `fd`, which it owns from then on."""

    def __init__(self, fd: int) -> None:
        super().__init__(max_size=_MAX_RESPONSE_BYTES)
        self._socket = socket.socket(fileno=fd)

    def do_transmit(self, command: bytes) -> None:
        """Send one TPM command; raises TSS2_Exception where the relay is gone."""
        try:
            self._socket.sendall(command)
        except OSError as error:
            raise TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR) from error

    def do_receive(self, timeout: int) -> bytes:
        """Return one TPM response; `timeout` is in milliseconds, negative for none."""
        self._socket.settimeout(None if timeout < 0 else timeout / 1000)
        header = self._receive_exactly(_HEADER_BYTES)
        size = int.from_bytes(header[2:6], "big")
        if not _HEADER_BYTES <= size <= _MAX_RESPONSE_BYTES:
            raise TSS2_Exception(TSS2_RC.TCTI_RC_MALFORMED_RESPONSE)
        return header + self._receive_exactly(size - _HEADER_BYTES)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _receive_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._socket.recv(size - len(data))
            except OSError as error:
                raise TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR) from error
            if not part:
                raise TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR)
            data += part
        return bytes(data)
