"""TPM evidence: its format, its checks, and what is left when all of them hold.

`check_tpm_evidence` is the list of checks. `verify_tpm_evidence` returns a `VerifiedTpm` only
where every one of them passed, so that nothing unverified can be taken for verified.
"""

from typing import NamedTuple

from laminator.appraise.check import NOT_APPLICABLE, PASS, Check
from laminator.claims import Launch
from laminator.evidence import tpm_quote as quote
from laminator.evidence.tpm_counter import check_run_counter
from laminator.evidence.tpm_format import (
    LAUNCH_PCR,
    MAX_CERTIFICATE,
    MAX_CERTIFICATES,
    MAX_TPM_EVIDENCE,
    RUN_PCR,
    TPM_KIND,
    TPM_MEDIA_TYPE,
    Attested,
    Expected,
    ParsedTpm,
    SignedAttest,
    TpmEvidence,
    encode_tpm_evidence,
    expect,
    expect_attested,
    launch_pcr,
    parse_tpm_evidence,
)
from laminator.evidence.tpm_key import key_digest

__all__ = [
    "LAUNCH_PCR",
    "MAX_CERTIFICATE",
    "MAX_CERTIFICATES",
    "MAX_TPM_EVIDENCE",
    "RUN_PCR",
    "TPM_KIND",
    "TPM_MEDIA_TYPE",
    "Attested",
    "Expected",
    "ParsedTpm",
    "SignedAttest",
    "TpmAppraisal",
    "TpmEvidence",
    "VerifiedTpm",
    "check_tpm_evidence",
    "encode_tpm_evidence",
    "expect",
    "expect_attested",
    "launch_pcr",
    "parse_tpm_evidence",
    "verify_tpm_evidence",
]


class VerifiedTpm(NamedTuple):
    """What a TPM proved of a run, once every check passed.

    `key` is SHA-256 of the AK's SubjectPublicKeyInfo, `milliseconds` the time between the start
    quote and the end quote by the TPM's clock.
    """

    key: bytes
    launch: Launch
    run_number: int
    milliseconds: int


class TpmAppraisal(NamedTuple):
    """The checks of a piece of TPM evidence; `verified` only where all of them passed."""

    checks: tuple[Check, ...]
    verified: VerifiedTpm | None


def check_tpm_evidence(evidence: ParsedTpm, expected: Expected) -> tuple[Check, ...]:
    """Return every check of `evidence` against what its card requires."""
    return (
        quote.check_magic(evidence),
        quote.check_type(evidence),
        quote.check_algorithm(evidence),
        quote.check_ak_attributes(evidence),
        quote.check_signature(evidence),
        quote.check_signer(evidence),
        quote.check_key(evidence, expected),
        quote.check_start_binding(evidence, expected),
        quote.check_binding(evidence, expected),
        quote.check_pcr_selection(evidence, expected),
        quote.check_start_pcr_digest(evidence, expected),
        quote.check_pcr_digest(evidence, expected),
        quote.check_launch(evidence, expected),
        quote.check_clock(evidence),
        *check_run_counter(evidence, expected),
    )


def verify_tpm_evidence(evidence: ParsedTpm, expected: Expected) -> TpmAppraisal:
    """Appraise `evidence` against what its card requires."""
    checks = check_tpm_evidence(evidence, expected)
    if any(check.verdict not in (PASS, NOT_APPLICABLE) for check in checks):
        return TpmAppraisal(checks, None)
    start, end = evidence.start.attest.clock_info, evidence.end.attest.clock_info
    verified = VerifiedTpm(
        key=key_digest(evidence.ak).value,
        launch=expected.launch,
        run_number=expected.run_number,
        milliseconds=end.clock - start.clock,
    )
    return TpmAppraisal(checks, verified)
