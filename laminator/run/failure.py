"""The failure record of a run that ends without a card: signed while its TPM is still open."""

import time
from pathlib import Path

from laminator.attest.tpm import SignedAttest
from laminator.claims import EvidenceRef
from laminator.digest import sha256
from laminator.evidence.tpm_format import TPM_KIND
from laminator.failure import (
    FailureClaims,
    FailureRecord,
    encode_failure,
    encode_failure_claims,
    expected_records,
    failure_binding,
)
from laminator.run.atomic import write_atomically
from laminator.run.attestation import Attestation, SpentNumber, quote_log, tpm_message
from laminator.run.log import RunLog
from laminator.run.run_list import Failure

FAILURE_SUFFIX = ".failure"
_MODE = 0o600
_TICK = 0.003
"""The TPM's clock counts milliseconds, and a run may fail right after its start quote."""


def sign_failure(
    attestation: Attestation,
    spent: SpentNumber,
    start: SignedAttest,
    *,
    nonce: bytes | None,
    outcome: str,
) -> FailureRecord:
    """Start the log again as that of a failed run, and have it quoted. Raises MachineError.

    `start` is the run's own start quote: between the two quotes lies the run's time.
    """
    reference = EvidenceRef(TPM_KIND, attestation.key)
    claims = FailureClaims(int(time.time()), spent.run, outcome, reference, nonce)
    claims_bytes = encode_failure_claims(claims)
    log = RunLog(attestation.tpm)
    log.append(*expected_records(claims, spent.counter.attest))
    time.sleep(_TICK)
    end = quote_log(attestation, log, failure_binding(claims_bytes))
    return FailureRecord(claims_bytes, claims, tpm_message(attestation, spent, start, end))


def write_failure(record: FailureRecord, folder: Path) -> Failure:
    """Write the record to its place in `folder`. Raises MachineError, OSError."""
    content = encode_failure(record)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    run = record.claims.run
    path = folder / f"{run.number}-{run.id.hex()}{FAILURE_SUFFIX}"
    write_atomically(path, content, mode=_MODE)
    return Failure(path, sha256(content).value)
