"""An endorsement key's certificate: its chain, its revocation, its profile.

Sources: TCG EK Credential Profile for TPM Family 2.0, clause 3; RFC 5280, clauses 4.2 and 6.
The chain is built by pyOpenSSL's X509Store, because an EK certificate has an empty subject and a
critical subject alternative name of directory names, which cryptography's verifier refuses.
What OpenSSL leaves open (weak hashes, certificates without basic constraints) is checked here.
"""

import datetime as dt
import warnings
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import crypto

from laminator.appraise.algorithms import key_weakness
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import MalformedError, UsageError
from laminator.evidence.tpm_key import PublicKey

EK_CERTIFICATE_OID = x509.ObjectIdentifier("2.23.133.8.1")
_SAN_ATTRIBUTES = tuple(
    x509.ObjectIdentifier(oid) for oid in ("2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3")
)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_MAX_CERTIFICATE = 16 * 1024
_MAX_CHAIN = 8
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

# X509_verify_cert's results (openssl/x509_vfy.h).
_CODES = {
    3: "ek.crl",
    8: "ek.crl",
    9: "ek.validity",
    10: "ek.validity",
    11: "ek.crl",
    12: "ek.crl",
    23: "ek.revoked",
    33: "ek.crl",
    35: "ek.crl",
    36: "ek.crl",
    44: "ek.crl",
}


class EkAnchor(NamedTuple):
    """A manufacturer's root, and the kind of machine that it stands for (``tpm``, …)."""

    certificate: x509.Certificate
    kind: str


class EkTrust(NamedTuple):
    """What an authority judges EK certificates by: its roots, and CRLs for every level."""

    anchors: tuple[EkAnchor, ...]
    crls: tuple[x509.CertificateRevocationList, ...]


class VerifiedEkCertificate(NamedTuple):
    """An EK certificate whose chain held at the stated time.

    `digest` is the SHA-256 of its DER, `anchor_kind` the kind of the root that it chained to.
    """

    certificate: x509.Certificate
    digest: bytes
    anchor_kind: str


_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def parse_certificate(data: bytes) -> x509.Certificate:
    """Parse a DER certificate with its names and all of its extensions. Raises `MalformedError`."""
    if len(data) > _MAX_CERTIFICATE:
        raise MalformedError("certificate.size", f"more than {_MAX_CERTIFICATE} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            certificate = x509.load_der_x509_certificate(data)
            positive = certificate.serial_number > 0
            # What follows is parsed on first use, and kept.
            _ = certificate.extensions, certificate.subject, certificate.issuer
    except _UNREADABLE as error:
        raise MalformedError("certificate.der", "not a certificate that can be read") from error
    if not positive:
        raise MalformedError("certificate.serial", "the serial number is not positive")
    return certificate


def certificate_key(certificate: x509.Certificate) -> PublicKey:
    """Return the RSA or elliptic-curve key of a certificate. Raises `MalformedError`."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("certificate.key", "a key of an unknown kind") from error
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise MalformedError("certificate.key", "neither an RSA nor an elliptic-curve key")
    return key


def verify_ek_certificate(
    certificate: x509.Certificate,
    intermediates: Iterable[x509.Certificate],
    trust: EkTrust,
    at: dt.datetime,
) -> VerifiedEkCertificate:
    """Check an EK certificate and its chain to one of `trust.anchors` at the time `at`.

    `intermediates` are candidates only. Raises `EnrolmentRefusedError`, `MalformedError` where a
    certificate's key cannot be read, and `UsageError` where `at` has no time zone.
    """
    candidates = tuple(intermediates)
    chain = _build_chain(certificate, candidates, trust, at)
    lasting = tuple(crl for crl in trust.crls if crl.next_update_utc is not None)
    if len(lasting) < len(trust.crls):
        # A list without an end revokes, but OpenSSL would let it clear as well, for ever.
        _build_chain(certificate, candidates, trust._replace(crls=lasting), at)
    kind = _anchor_kind(chain[-1], trust)
    for issued in chain[:-1]:
        check_signature_hash(issued)
    for issuer in chain[1:-1]:
        _check_issuer(issuer)
    check_profile(certificate)
    return VerifiedEkCertificate(certificate, certificate.fingerprint(hashes.SHA256()), kind)


def check_profile(certificate: x509.Certificate) -> None:
    """Check that a certificate is one for an endorsement key (EK Credential Profile, clause 3).

    Raises `EnrolmentRefusedError`.
    """
    if _required(certificate, x509.BasicConstraints).ca:
        raise EnrolmentRefusedError("ek.constraints", "the EK certificate is one of an authority")
    if EK_CERTIFICATE_OID not in _required(certificate, x509.ExtendedKeyUsage):
        raise EnrolmentRefusedError(
            "ek.purpose", "the certificate's extended key usage is not 2.23.133.8.1"
        )
    _check_key_usage(certificate)
    _check_subject(certificate)


def check_signature_hash(certificate: x509.Certificate) -> None:
    """Refuse a signature with less than SHA-256. Raises `EnrolmentRefusedError`."""
    if not _has_strong_hash(certificate):
        raise EnrolmentRefusedError("ek.signature", "a signature's hash is not SHA-256 or better")


def _has_strong_hash(signed: x509.Certificate | x509.CertificateRevocationList) -> bool:
    try:
        return isinstance(signed.signature_hash_algorithm, _HASHES)
    except UnsupportedAlgorithm:
        return False


def _build_chain(
    certificate: x509.Certificate,
    intermediates: tuple[x509.Certificate, ...],
    trust: EkTrust,
    at: dt.datetime,
) -> list[x509.Certificate]:
    if at.tzinfo is None:
        raise UsageError("ek.time", "the time to check at needs a time zone")
    if len(intermediates) > _MAX_CHAIN:
        raise MalformedError("ek.chain", f"more than {_MAX_CHAIN} intermediate certificates")
    try:
        context = _store_context(certificate, intermediates, trust, at)
        return [each.to_cryptography() for each in context.get_verified_chain()]
    except crypto.X509StoreContextError as error:
        number, depth, reason = error.errors
        raise EnrolmentRefusedError(
            _CODES.get(number, "ek.chain"),
            f"the EK certificate's chain does not hold at depth {depth}: {reason}",
        ) from error
    except crypto.Error as error:
        raise MalformedError("certificate.der", "a certificate OpenSSL cannot read") from error


def _store_context(
    certificate: x509.Certificate,
    intermediates: tuple[x509.Certificate, ...],
    trust: EkTrust,
    at: dt.datetime,
) -> crypto.X509StoreContext:
    store = crypto.X509Store()
    store.set_time(at.astimezone(dt.UTC))
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
    for anchor in trust.anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor.certificate))
    for crl in filter(_has_strong_hash, trust.crls):
        store.add_crl(crl)
    candidates = [crypto.X509.from_cryptography(each) for each in intermediates]
    return crypto.X509StoreContext(store, crypto.X509.from_cryptography(certificate), candidates)


def _anchor_kind(root: x509.Certificate, trust: EkTrust) -> str:
    kinds = {anchor.kind for anchor in trust.anchors if anchor.certificate == root}
    if len(kinds) != 1:
        raise EnrolmentRefusedError("ek.anchor", "the chain's root is not one anchor of one kind")
    return kinds.pop()


def _check_issuer(certificate: x509.Certificate) -> None:
    # Where these two are present OpenSSL has judged them; it lets some certificates without pass.
    _required(certificate, x509.BasicConstraints)
    _required(certificate, x509.KeyUsage)
    certificate_key(certificate)
    if key_weakness(certificate):
        raise EnrolmentRefusedError("ek.chain", "an authority's key in the chain is too weak")


def _check_key_usage(certificate: x509.Certificate) -> None:
    usage = _required(certificate, x509.KeyUsage)
    if isinstance(certificate_key(certificate), rsa.RSAPublicKey):
        fit = usage.key_encipherment
    else:
        fit = usage.key_agreement
    if not fit or usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise EnrolmentRefusedError(
            "ek.key-usage", "the EK certificate's key usage is not that of an endorsement key"
        )


def _check_subject(certificate: x509.Certificate) -> None:
    """Check the subject alternative name: a directory name with the TPM's maker and model."""
    names = _required(certificate, x509.SubjectAlternativeName)
    if not list(certificate.subject) and not _critical(certificate, x509.SubjectAlternativeName):
        raise EnrolmentRefusedError(
            "ek.subject", "the subject is empty and its alternative name not critical"
        )
    directories = names.get_values_for_type(x509.DirectoryName)
    named = {attribute.oid for directory in directories for attribute in directory}
    if not named.issuperset(_SAN_ATTRIBUTES):
        raise EnrolmentRefusedError(
            "ek.subject", "the subject alternative name has no TPM manufacturer, model and version"
        )


def _required(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound as error:
        raise EnrolmentRefusedError(
            "ek.extension", f"a certificate in the chain has no {kind.__name__}"
        ) from error


def _critical(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> bool:
    return certificate.extensions.get_extension_for_class(kind).critical
