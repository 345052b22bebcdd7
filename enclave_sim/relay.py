"""The attester's way to the TPM: commands and responses at locality 0, and nothing else.

The relay judges no command: the hierarchies' auths and the TPM's own rules do. It refuses what is
not framed as a command, because that would reach the next command's place.
"""

import socket

from enclave_sim.swtpm import Swtpm, receive_message
from laminator.errors import MachineError


def serve(attester: socket.socket, tpm: Swtpm) -> None:
    """Forward until either side ends, then close the attester's channel."""
    with attester:
        try:
            while True:
                attester.sendall(tpm.exchange(receive_message(attester)))
        except (OSError, MachineError):
            return
