"""What the driver asks of an attester, whether simulated or this machine's own."""

from typing import NamedTuple, Protocol


class Verification(NamedTuple):
    """The options with which `laminator verify` accepts an attester's cards."""

    trust: str | None = None
    policy: str | None = None


class Ended(NamedTuple):
    """An attester's exit status, and how its card verifies."""

    status: int
    verification: Verification


class Attester(Protocol):
    """Something that runs the attester's process to its end."""

    def run(self, request: bytes) -> Ended:
        """Run an attester on `request`."""
