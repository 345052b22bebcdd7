"""The run's log while it grows: each record is in the PCR before the next step is taken."""

from laminator.attest.tpm import AttestationTpm
from laminator.eventlog import EMPTY_HEAD, Record, extend, record_digest


class RunLog:
    """The records so far and their head; `append` extends the TPM's PCR first."""

    def __init__(self, tpm: AttestationTpm) -> None:
        """Reset the PCR. Raises MachineError where the TPM refuses."""
        self._tpm = tpm
        self._records: list[Record] = []
        self.head = EMPTY_HEAD
        tpm.reset_log()

    @property
    def records(self) -> tuple[Record, ...]:
        """The records so far."""
        return tuple(self._records)

    def append(self, *records: Record) -> None:
        """Extend the PCR with each record and keep it. Raises MachineError."""
        for record in records:
            self._tpm.extend_log(record_digest(record))
            self._records.append(record)
            self.head = extend(self.head, record)
