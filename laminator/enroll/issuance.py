"""An authority at its desk: requests become challenges, responses become certificates.

The rules are those of `laminator.enroll.authority`; here is what needs memory: a challenge is
answered once, an endorsement key that was revoked earns nothing and loses what it earned, serial
numbers are unique, and the revocation list knows all of it. Time is an argument.
"""

import datetime as dt
import hashlib
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from laminator.enroll.ak_certificate import Authority, CertificateTerms, signing_hash
from laminator.enroll.authority import (
    CheckedAk,
    VerifiedAk,
    VerifiedEk,
    accept_response,
    certify,
    challenge,
    check_ak,
    check_counter,
    check_ek,
    verify_endorsement,
)
from laminator.enroll.authority_store import (
    AuthorityStore,
    EkIdentity,
    IssuedCertificate,
    PosedChallenge,
)
from laminator.enroll.ek_certificate import EkTrust, certificate_key
from laminator.enroll.exchange import (
    EnrolmentChallenge,
    EnrolmentRequest,
    EnrolmentResponse,
    digest,
    encode_challenge,
    parse_request,
)
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import UsageError

UNSPECIFIED = "unspecified"
REASONS = {
    UNSPECIFIED: None,
    "key-compromise": x509.ReasonFlags.key_compromise,
    "privilege-withdrawn": x509.ReasonFlags.privilege_withdrawn,
    "cessation-of-operation": x509.ReasonFlags.cessation_of_operation,
    "superseded": x509.ReasonFlags.superseded,
}
"""Reasons for a revocation (RFC 5280, 5.3.1). A verifier lets the first two condemn at every time,
the others from their date on."""

_HARMLESS = ("superseded", "cessation-of-operation")
_SKEW = dt.timedelta(minutes=5)


class Judged(NamedTuple):
    """By what an authority judges endorsement keys, and when (time zone required)."""

    trust: EkTrust
    at: dt.datetime


class CheckedRequest(NamedTuple):
    """A request all of whose public areas and certificates passed."""

    ak: CheckedAk
    ek: VerifiedEk
    template: str
    counter_name: bytes


class RevocationRound(NamedTuple):
    """What manufacturers' CRLs did to issued certificates, and which EKs could not be judged."""

    revoked: tuple[str, ...]
    unjudged: tuple[str, ...]


def check_request(
    store: AuthorityStore, request: EnrolmentRequest, trust: EkTrust, at: dt.datetime
) -> CheckedRequest:
    """Check a request by every rule of the authority's, revocations of its own included.

    Raises EnrolmentRefusedError and MalformedError.
    """
    ak, ek, counter = check_ak(request.ak), check_ek(request.ek), check_counter(request.counter)
    verified = verify_endorsement(ek, request.ek_certificates, trust, at)
    _check_own_revocations(store, ak, verified)
    return CheckedRequest(ak, verified, ek.template.name, counter)


def pose_challenge(
    store: AuthorityStore, certificate: x509.Certificate, data: bytes, judged: Judged
) -> bytes:
    """Return the file of a challenge for the request in `data`, and remember it.

    `certificate` is the authority's. Raises EnrolmentRefusedError and MalformedError.
    """
    at = judged.at
    with store.transaction():
        checked = check_request(store, parse_request(data), judged.trust, at)
        credential, pending = challenge(checked.ak, checked.ek, checked.counter_name, at)
        file = encode_challenge(
            EnrolmentChallenge(
                request=digest(data),
                authority=certificate.fingerprint(hashes.SHA256()),
                ak=pending.ak,
                ek=checked.template,
                credential=credential,
                expires=int(pending.expires.timestamp()),
            )
        )
        posed = PosedChallenge(digest(file), data, pending, int(at.timestamp()), None)
        store.add_challenge(posed)
    return file


def issue(
    store: AuthorityStore,
    authority: Authority,
    response: EnrolmentResponse,
    judged: Judged,
    lifetime: dt.timedelta,
) -> IssuedCertificate:
    """Return a certificate for the key whose TPM opened the challenge.

    The challenge is used up by this, also by a wrong or late secret; the certificate and that
    are one transaction. The endorsement key is judged again, as manufacturers and the authority
    may have revoked it since. Raises EnrolmentRefusedError, and UsageError for an impossible
    lifetime; both MalformedError and refusals of the endorsement key leave the challenge open.
    """
    at = judged.at
    with store.transaction():
        posed = _open_challenge(store, response.challenge)
        request = parse_request(posed.request)
        checked = check_request(store, request, judged.trust, at)
        _check_unchanged(posed, checked)
        store.answer(posed.digest, int(at.timestamp()))
        outcome = _accepted(posed, response.secret, at)
        if isinstance(outcome, VerifiedAk):
            certificate = certify(outcome, authority, _terms(authority, at, lifetime))
            issued = _record(certificate, outcome, checked, posed, int(at.timestamp()))
            store.add_certificate(issued)
            return issued
    # The transaction has kept that the challenge is used up.
    raise outcome


def revoke_certificate(store: AuthorityStore, serial: str, at: dt.datetime, reason: str) -> None:
    """Revoke one certificate. Raises UsageError for a serial number that was never issued."""
    with store.transaction():
        if store.certificate(serial) is None:
            raise UsageError("authority.serial", f"no certificate has the serial number {serial}")
        store.revoke(serial, int(at.timestamp()), reason)


def revoke_ek(
    store: AuthorityStore, ek: EkIdentity, at: dt.datetime, reason: str
) -> tuple[str, ...]:
    """Revoke an endorsement key, and every certificate that it earned; return their serials."""
    with store.transaction():
        return store.revoke_ek(ek, int(at.timestamp()), reason)


def revoke_by_manufacturers(store: AuthorityStore, judged: Judged) -> RevocationRound:
    """Revoke what endorsement keys earned that their manufacturers have revoked since.

    A key whose chain cannot be judged (an expired CRL, a root that is gone) keeps its
    certificates and is named.
    """
    revoked: list[str] = []
    unjudged: list[str] = []
    at = int(judged.at.timestamp())
    with store.transaction():
        for item in store.certificates():
            if item.revoked is not None:
                continue
            code = _ek_refusal(store, item, judged)
            if code == "ek.revoked":
                ek = EkIdentity(item.ek_certificate_digest, item.ek_key)
                revoked += store.revoke_ek(ek, at, UNSPECIFIED)
            elif code is not None:
                unjudged.append(item.serial)
    return RevocationRound(tuple(revoked), tuple(unjudged))


def make_crl(
    store: AuthorityStore, authority: Authority, at: dt.datetime, lifetime: dt.timedelta
) -> x509.CertificateRevocationList:
    """Return the next revocation list, of all revoked certificates, and remember it."""
    key_id = x509.SubjectKeyIdentifier.from_public_key(authority.key.public_key())
    with store.transaction():
        number = store.next_crl_number()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.certificate.subject)
            .last_update(at)
            .next_update(at + lifetime)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id),
                critical=False,
            )
        )
        for item in store.certificates():
            if item.revoked is not None:
                builder = builder.add_revoked_certificate(_entry(item, item.revoked))
        crl = builder.sign(authority.key, signing_hash(authority.key))
        store.add_crl(number, crl.public_bytes(Encoding.DER), int(at.timestamp()))
    return crl


def ek_identity(certificate: x509.Certificate) -> EkIdentity:
    """Return by what an endorsement key is known. Raises MalformedError."""
    key = certificate_key(certificate)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return EkIdentity(certificate.fingerprint(hashes.SHA256()), hashlib.sha256(spki).digest())


def _check_own_revocations(store: AuthorityStore, ak: CheckedAk, ek: VerifiedEk) -> None:
    if store.is_ek_revoked(ek_identity(ek.certificate)):
        message = "this authority has revoked the endorsement key"
        raise EnrolmentRefusedError("ek.revoked-by-authority", message)
    for item in store.earned_by_key(ak.name):
        if item.revoked is not None and item.reason not in _HARMLESS:
            message = f"this authority has revoked a certificate of the key: {item.serial}"
            raise EnrolmentRefusedError("ak.revoked-by-authority", message)


def _open_challenge(store: AuthorityStore, challenge_digest: bytes) -> PosedChallenge:
    posed = store.challenge(challenge_digest)
    if posed is None:
        message = "the response is to no challenge of this authority"
        raise EnrolmentRefusedError("response.unknown", message)
    if posed.answered is not None:
        earned = store.earned_by_challenge(posed.digest)
        message = "the challenge has been answered already; ask for another one with the request"
        if earned is not None:
            message = (
                "the challenge has been answered already; its certificate: "
                f"laminator authority list --certificate {earned.serial} --out FILE"
            )
        raise EnrolmentRefusedError("response.used", message)
    return posed


def _check_unchanged(posed: PosedChallenge, checked: CheckedRequest) -> None:
    """Check that manufacturers' roots of today give what those of the challenge's day gave."""
    if checked.ek.anchor_kind != posed.pending.anchor_kind:
        message = "the manufacturer's root has another kind than when the challenge was posed"
        raise EnrolmentRefusedError("ek.anchor", message)


def _accepted(
    posed: PosedChallenge, secret: bytes, at: dt.datetime
) -> VerifiedAk | EnrolmentRefusedError:
    try:
        return accept_response(posed.pending, secret, at)
    except EnrolmentRefusedError as refusal:
        return refusal


def _terms(authority: Authority, at: dt.datetime, lifetime: dt.timedelta) -> CertificateTerms:
    begin = max(at - _SKEW, authority.certificate.not_valid_before_utc)
    return CertificateTerms(begin, at + lifetime, x509.random_serial_number())


def _record(
    certificate: x509.Certificate,
    verified: VerifiedAk,
    checked: CheckedRequest,
    posed: PosedChallenge,
    at: int,
) -> IssuedCertificate:
    return IssuedCertificate(
        serial=f"{certificate.serial_number:x}",
        der=certificate.public_bytes(Encoding.DER),
        ak_name=verified.ak.name,
        ek_key=ek_identity(checked.ek.certificate).key,
        ek_certificate_digest=verified.ek_certificate_digest,
        anchor_kind=verified.extension.anchor,
        issued=at,
        expires=int(certificate.not_valid_after_utc.timestamp()),
        revoked=None,
        reason=None,
        challenge=posed.digest,
    )


def _ek_refusal(store: AuthorityStore, item: IssuedCertificate, judged: Judged) -> str | None:
    """Return why the endorsement key behind `item` would be refused now."""
    posed = store.challenge(item.challenge)
    if posed is None:
        return "challenge.missing"
    request = parse_request(posed.request)
    try:
        verify_endorsement(check_ek(request.ek), request.ek_certificates, judged.trust, judged.at)
    except EnrolmentRefusedError as refusal:
        return refusal.code
    return None


def _entry(item: IssuedCertificate, revoked: int) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(int(item.serial, 16))
        .revocation_date(dt.datetime.fromtimestamp(revoked, dt.UTC))
    )
    reason = REASONS[item.reason or UNSPECIFIED]
    if reason is not None:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()
