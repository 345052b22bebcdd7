"""The failure record: what an attester signs for a run that ended without a card.

`docs/card.cddl` describes the encoding. A record that was parsed is not one that was verified.
The run's log is not carried: claims and counter certification fix its three records. Profile,
binding and log are none that a card has, so neither can be taken for the other.
"""

import hashlib
from typing import NamedTuple

from laminator import cbor
from laminator.card import ConceptualMessage, parse_message
from laminator.cbor import Encodable
from laminator.claims import EvidenceRef, Run
from laminator.claims_codec import (
    MAX_NONCE_BYTES,
    MIN_NONCE_BYTES,
    parse_evidence,
    parse_run,
    plain_evidence,
    plain_run,
)
from laminator.errors import MalformedError
from laminator.eventlog import NOTHING, Record, counter_record, start_record
from laminator.fields import Fields, choice, malformed, octets, uint

FAILURE_PROFILE = "tag:laminator,2026:run-failure-v1"
MAX_FAILURE = 256 * 1024
OUTCOMES = ("workload-failed", "refused", "failed", "interrupted")
"""How a run ends without a card, in the attester's word: the workload ended with another status
than 0, what was asked for cannot be had, something else went wrong, a signal stopped the run."""

_BINDING_DOMAIN = b"laminator-run-failure-v1\x00"
_MAX_CLAIMS = 4096
_NONCE_KEY, _IAT_KEY, _PROFILE_KEY = 10, 6, 265


class FailureClaims(NamedTuple):
    """What a failure record says. `iat` is the host's clock in seconds since 1970, `declared`."""

    iat: int
    run: Run
    outcome: str
    evidence: EvidenceRef
    nonce: bytes | None = None


class FailureRecord(NamedTuple):
    """A parsed, unverified failure record; its evidence has to cover `claims_bytes`."""

    claims_bytes: bytes
    claims: FailureClaims
    evidence: ConceptualMessage

    @property
    def id(self) -> bytes:
        """The record's binding."""
        return failure_binding(self.claims_bytes)


def failure_binding(claims_bytes: bytes) -> bytes:
    """Return SHA-256("laminator-run-failure-v1" || 00 || claims): what the evidence signs."""
    return hashlib.sha256(_BINDING_DOMAIN + claims_bytes).digest()


def failed_record(outcome: str) -> Record:
    """Return the log's last record: the run ended without a card, and how."""
    return Record("failed", outcome, NOTHING)


def expected_records(claims: FailureClaims, counter_attest: bytes) -> tuple[Record, ...]:
    """Return the whole log behind a failure record with these claims and this counter."""
    return (
        counter_record(counter_attest),
        start_record(claims.run, claims.nonce),
        failed_record(claims.outcome),
    )


def parse_failure(data: bytes) -> FailureRecord:
    """Parse the one encoding of a failure record. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_FAILURE), "failure")
    fields.take("profile", choice(FAILURE_PROFILE))
    claims_bytes = fields.take("claims", octets(1, _MAX_CLAIMS))
    evidence = fields.take("evidence", parse_message)
    fields.close()
    return FailureRecord(claims_bytes, _parse_claims(claims_bytes), evidence)


def encode_failure(record: FailureRecord) -> bytes:
    """Return the record's one encoding. Raises MalformedError where it could not be read back."""
    plain: dict[str, Encodable] = {
        "profile": FAILURE_PROFILE,
        "claims": record.claims_bytes,
        "evidence": record.evidence,
    }
    encoded = cbor.encode(plain)
    if parse_failure(encoded) != record:
        raise MalformedError("failure.claims", "the claims are not those of their bytes")
    return encoded


def encode_failure_claims(claims: FailureClaims) -> bytes:
    """Return the claims' one encoding. Raises MalformedError where it could not be read back."""
    plain: dict[cbor.Key, Encodable] = {
        _IAT_KEY: claims.iat,
        _PROFILE_KEY: FAILURE_PROFILE,
        "run": plain_run(claims.run),
        "outcome": claims.outcome,
        "evidence": plain_evidence(claims.evidence),
    }
    if claims.nonce is not None:
        plain[_NONCE_KEY] = claims.nonce
    encoded = cbor.encode(plain)
    _parse_claims(encoded)
    return encoded


def _parse_claims(data: bytes) -> FailureClaims:
    fields = Fields(cbor.decode(data, max_bytes=_MAX_CLAIMS), "claims")
    fields.take(_PROFILE_KEY, choice(FAILURE_PROFILE))
    claims = FailureClaims(
        iat=fields.take(_IAT_KEY, uint),
        run=fields.take("run", parse_run),
        outcome=fields.take("outcome", choice(*OUTCOMES)),
        evidence=fields.take("evidence", parse_evidence),
        nonce=fields.optional(_NONCE_KEY, octets(MIN_NONCE_BYTES, MAX_NONCE_BYTES)),
    )
    fields.close()
    if claims.evidence.vouched_by is not None:
        raise malformed("claims.evidence", "no voucher: there is one piece", claims.evidence)
    return claims
