"""A simulated machine as attester: one folder, made and started on demand."""

import os
import sys
from pathlib import Path

from enclave_sim.client import ensure
from laminator.run.back_end import Ended, Verification
from laminator.run.progress import working


class SimulatedMachine:
    """The machine in `folder`, or the user's own where `folder` is empty."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder).absolute() if folder else None

    def run(self, request: bytes) -> Ended:
        """Launch an attester and wait for its end. Raises MachineError, UsageError."""
        with working("starting the simulated machine"):
            started = ensure(self._folder)
        with started as machine:
            verification = Verification(str(machine.trust_dir), str(machine.policy_path))
            descriptor = os.memfd_create("laminator-request", os.MFD_CLOEXEC)
            try:
                with os.fdopen(os.dup(descriptor), "wb") as file:
                    file.write(request)
                os.lseek(descriptor, 0, os.SEEK_SET)
                return Ended(machine.launch(descriptor, waiting=_waiting), verification)
            finally:
                os.close(descriptor)


def _waiting() -> None:
    sys.stderr.write("laminator: another run uses this machine; waiting for its end\n")
