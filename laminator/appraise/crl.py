"""Revocation by CRL (RFC 5280 section 5), judged at the verifier's time.

Of the complete lists that an issuer signed, the newest one decides. A list that was issued after
the certificate had expired need not name it any more, and a partial list (a delta, one with an
issuing distribution point or with a critical extension) never names all: where one of those is
newer, it can condemn but not clear. So can a list that an issuer's key signed and its certificate
does not stand for (no cRLSign, another key identifier): who carries the certificates may have
chosen, of two for one key, the one that its lists do not fit.
"""

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from laminator.appraise.algorithms import hash_weakness
from laminator.appraise.check import Check, failed, not_checked, passed
from laminator.errors import shown

_REASONS_THAT_COUNT_FROM_THEIR_DATE = frozenset(
    {
        x509.ReasonFlags.affiliation_changed,
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.cessation_of_operation,
        x509.ReasonFlags.certificate_hold,
        x509.ReasonFlags.privilege_withdrawn,
    }
)
_PARTIAL = (ExtensionOID.ISSUING_DISTRIBUTION_POINT, ExtensionOID.DELTA_CRL_INDICATOR)

Crls = tuple[x509.CertificateRevocationList, ...]


def check_revocation(
    id_: str, chain: tuple[x509.Certificate, ...], crls: Crls, at: dt.datetime
) -> Check:
    """Check that no certificate of `chain` below its anchor was revoked; `id_` is the check's.

    `chain` runs from the leaf to the anchor. A level without a current list is not-checked.
    """
    levels = [
        _check_level(id_, certificate, issuer, crls, at) for certificate, issuer in pairwise(chain)
    ]
    for verdict in ("fail", "not-checked"):
        for level in levels:
            if level.verdict == verdict:
                return level
    return passed(id_, f"no certificate is revoked on the newest lists of {len(levels)} issuers")


def _check_level(
    id_: str, certificate: x509.Certificate, issuer: x509.Certificate, crls: Crls, at: dt.datetime
) -> Check:
    name = shown(certificate.subject.rfc4514_string())
    for crl in _issued_by(issuer, crls):
        for entry in _entries(crl, certificate.serial_number):
            if _counts(entry, at):
                date = entry.revocation_date_utc.isoformat()
                return failed(id_, f"{name} was revoked on {date}, reason {_reason_words(entry)}")
        if _can_clear(crl, issuer) and crl.last_update_utc <= certificate.not_valid_after_utc:
            return _check_current(id_, crl, name, at)
    return not_checked(id_, f"no revocation list that covers {name}")


def _entries(crl: x509.CertificateRevocationList, serial: int) -> Iterator[x509.RevokedCertificate]:
    """Yield every entry of a serial number: a list may name it twice.

    The library finds one of them, and much faster than all are read.
    """
    if crl.get_revoked_certificate_by_serial_number(serial) is not None:
        yield from (entry for entry in crl if entry.serial_number == serial)


def _check_current(
    id_: str, crl: x509.CertificateRevocationList, name: str, at: dt.datetime
) -> Check:
    end = crl.next_update_utc
    if end is None:
        return not_checked(id_, f"the list that covers {name} does not say when it expires")
    if end < at:
        return not_checked(id_, f"the newest list that covers {name} expired {end.isoformat()}")
    return passed(id_, f"{name} is not revoked as of {crl.last_update_utc.isoformat()}")


def _issued_by(issuer: x509.Certificate, crls: Crls) -> list[x509.CertificateRevocationList]:
    """Return the lists that the key of `issuer` signed in its name, newest first."""
    signed = [crl for crl in crls if crl.issuer == issuer.subject and _is_signed(crl, issuer)]
    return sorted(signed, key=lambda crl: (crl.last_update_utc, _number(crl)), reverse=True)


def _can_clear(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Whether `crl` is the whole list of `issuer`: what it does not name is not revoked."""
    return _is_complete(crl) and _may_sign_crls(issuer) and _names_key_of(issuer, crl)


def _is_complete(crl: x509.CertificateRevocationList) -> bool:
    """Whether `crl` names all that its issuer revoked, as far as we understand it."""
    return not any(ext.critical or ext.oid in _PARTIAL for ext in crl.extensions)


def _is_signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Whether the key of `issuer` signed `crl`."""
    strong = not hash_weakness(crl.signature_hash_algorithm)
    return strong and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]


def _may_sign_crls(issuer: x509.Certificate) -> bool:
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return False


def _names_key_of(issuer: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    """Whether authority and subject key identifier agree, where there are both."""
    try:
        named = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return True
    return named.key_identifier in (None, own.digest)


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return -1


def _counts(entry: x509.RevokedCertificate, at: dt.datetime) -> bool:
    """Whether the entry condemns at `at`: a compromise, or no reason, at every time."""
    if _reason(entry) not in _REASONS_THAT_COUNT_FROM_THEIR_DATE:
        return True
    return _invalid_since(entry) <= at


def _invalid_since(entry: x509.RevokedCertificate) -> dt.datetime:
    """Return when the entry begins to count: a list may say that it was before the revocation."""
    try:
        stated = entry.extensions.get_extension_for_class(x509.InvalidityDate).value
    except x509.ExtensionNotFound:
        return entry.revocation_date_utc
    return min(entry.revocation_date_utc, stated.invalidity_date_utc)


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags | None:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except (
        ValueError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        return None


def _reason_words(entry: x509.RevokedCertificate) -> str:
    reason = _reason(entry)
    return "not stated" if reason is None else reason.value
