"""A simulated machine as attester: one folder, started on demand."""

from laminator.errors import MachineError
from laminator.run.driver import Verification


class SimulatedMachine:
    """The machine in `folder`, or the user's own where `folder` is empty."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.verification = Verification()

    def run(self, request: bytes) -> int:
        """Run the attester's process on the machine. Raises MachineError."""
        raise MachineError("simulated.missing", "there is no simulated machine yet")
