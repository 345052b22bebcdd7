"""A simulated machine as attester: one folder, made and started on demand."""

import os
from pathlib import Path

from enclave_sim.client import ensure
from laminator.run.driver import Verification


class SimulatedMachine:
    """The machine in `folder`, or the user's own where `folder` is empty.

    Raises UsageError, MachineError where it cannot be made or started.
    """

    def __init__(self, folder: str) -> None:
        self._machine = ensure(Path(folder) if folder else None)
        self.verification = Verification(
            trust=str(self._machine.trust_dir), policy=str(self._machine.policy_path)
        )

    def run(self, request: bytes) -> int:
        """Run the attester's process on the machine. Raises MachineError."""
        descriptor = os.memfd_create("laminator-request", os.MFD_CLOEXEC)
        with self._machine, os.fdopen(descriptor, "wb") as file:
            file.write(request)
            file.flush()
            os.lseek(descriptor, 0, os.SEEK_SET)
            return self._machine.launch(descriptor)
