"""Time-stamp tokens (RFC 3161): when something existed at the latest, and on whose word.

`appraise_token` is the list of checks. What the response carries are candidates for the signer's
certificate and for intermediates; anchors of the kinds `tsa` and `tsa-simulated`, and revocation
lists, are the verifier's. Everything is judged at the token's time.
"""

import datetime as dt
from typing import NamedTuple

from cryptography import x509

from laminator.appraise.chain import TIME_STAMPING, find_chain
from laminator.appraise.check import PASS, Check, failed, not_checked, passed
from laminator.appraise.path_checks import PathIds, check_path
from laminator.appraise.timestamp_rules import (
    check_eku,
    check_imprint,
    check_not_after,
    check_signature,
    check_signer,
    find_signer,
)
from laminator.appraise.trust import SIMULATED_TSA, TrustStore, parse_certificate
from laminator.digest import Digest
from laminator.errors import MalformedError
from laminator.evidence.timestamp_reply import TimestampReply, parse_timestamp_reply

_PATH = PathIds("time.chain", "time.algorithm", "time.validity", "time.revocation")
_OF_SIGNER = ("time.signature", "time.eku", *_PATH)


class VerifiedTime(NamedTuple):
    """When something existed at the latest: a token whose checks all passed.

    `time` is genTime and the accuracy that the authority states. `anchor` is the SHA-256 of the
    verifier's anchor, `authority` the subject of the signer's certificate (RFC 4514), as it stands
    there.
    """

    time: dt.datetime
    anchor: Digest
    simulated: bool
    authority: str


class TokenAppraisal(NamedTuple):
    """The checks of a token; `verified` only where every one of them passed."""

    checks: tuple[Check, ...]
    verified: VerifiedTime | None


def appraise_token(
    reply: bytes, message: bytes, trust: TrustStore, now: dt.datetime
) -> TokenAppraisal:
    """Judge a TimeStampResp that is to be over `message`, at the verifier's own time `now`.

    A token whose revocation status is not-checked gives no time, like one that fails.
    """
    try:
        parsed = parse_timestamp_reply(reply)
        certificates = tuple(parse_certificate(der) for der in parsed.certificates)
    except MalformedError as error:
        return TokenAppraisal((failed("time.parse", error.message),), None)
    checks = (
        passed("time.parse", "a granted response with one signer"),
        check_imprint(parsed.info, message),
        check_not_after(_latest(parsed), now),
    )
    signer = find_signer(parsed.signer, certificates)
    if signer is None:
        missing = failed("time.signer", "the response does not carry the signer's certificate")
        rest = (not_checked(id_, "there is no certificate of the signer") for id_ in _OF_SIGNER)
        return TokenAppraisal((*checks, missing, *rest), None)
    others = tuple(certificate for certificate in certificates if certificate != signer)
    return _appraise_signer(parsed, (signer, *others), trust, checks)


def _appraise_signer(
    parsed: TimestampReply,
    certificates: tuple[x509.Certificate, ...],
    trust: TrustStore,
    before: tuple[Check, ...],
) -> TokenAppraisal:
    """Judge the signer's certificate, the first of `certificates`, and what it signed."""
    signer, time = certificates[0], _latest(parsed)
    search = find_chain(TIME_STAMPING, certificates, trust.anchors, time)
    checks = (
        *before,
        check_signer(parsed.signer, signer),
        check_signature(parsed, signer),
        check_eku(signer),
        *check_path(_PATH, search, trust.crls, time),
    )
    if search.chain is None or any(check.verdict != PASS for check in checks):
        return TokenAppraisal(checks, None)
    anchor = search.chain.anchor
    simulated = anchor.kind == SIMULATED_TSA
    subject = signer.subject.rfc4514_string()
    return TokenAppraisal(checks, VerifiedTime(time, anchor.fingerprint, simulated, subject))


def _latest(parsed: TimestampReply) -> dt.datetime:
    """Return the latest time that the token allows."""
    return parsed.info.time + parsed.info.accuracy
