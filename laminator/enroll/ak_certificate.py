"""The X.509 profile of an attestation key's certificate.

Sources: RFC 5280, clause 4.2; TCG Infrastructure Working Group, A CMC Profile for AIK
Certificate Enrollment, for the purpose tcg-kp-AIKCertificate. This module shapes and signs;
`laminator.enroll.authority` decides who gets one.
"""

import datetime as dt
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from laminator.errors import UsageError
from laminator.evidence.ak_extension import AK_EXTENSION_OID, AkExtension, encode_ak_extension
from laminator.evidence.tpm_key import PublicKey

AK_CERTIFICATE_OID = x509.ObjectIdentifier("2.23.133.8.3")
_P384_BITS = 384

AuthorityKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Authority(NamedTuple):
    """An authority's certificate and the key that signs for it."""

    certificate: x509.Certificate
    key: AuthorityKey


class CertificateTerms(NamedTuple):
    """A certificate's validity (time zone required) and its serial number (1 to 20 octets)."""

    not_before: dt.datetime
    not_after: dt.datetime
    serial: int


def sign_ak_certificate(
    key: PublicKey, authority: Authority, terms: CertificateTerms, extension: AkExtension
) -> x509.Certificate:
    """Return a signed certificate for the attestation key `key`.

    Raises `UsageError` where the terms are not inside the authority's own validity, or the
    authority's certificate and key do not belong together or may not issue.
    """
    _check_authority(authority)
    _check_terms(terms, authority.certificate)
    ski = x509.SubjectKeyIdentifier.from_public_key(key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(f"Attestation key {ski.digest.hex()}"))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(terms.serial)
        .not_valid_before(terms.not_before)
        .not_valid_after(terms.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_signing_only(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([AK_CERTIFICATE_OID]), critical=False)
        .add_extension(ski, critical=False)
        .add_extension(_issuer_key(authority.certificate), critical=False)
        .add_extension(_private_extension(extension), critical=False)
    )
    return builder.sign(authority.key, signing_hash(authority.key))


def signing_hash(key: AuthorityKey) -> hashes.SHA256 | hashes.SHA384:
    """Return the hash that `key` signs with: SHA-384 for P-384, else SHA-256."""
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == _P384_BITS:
        return hashes.SHA384()
    return hashes.SHA256()


def _check_authority(authority: Authority) -> None:
    if authority.certificate.public_key() != authority.key.public_key():
        raise UsageError("authority.key", "the authority's key is not its certificate's")
    try:
        extensions = authority.certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        may_issue = constraints.ca and usage.key_cert_sign
    except x509.ExtensionNotFound:
        may_issue = False
    if not may_issue:
        raise UsageError("authority.certificate", "the authority's certificate may not issue")


def _check_terms(terms: CertificateTerms, issuer: x509.Certificate) -> None:
    if terms.not_before.tzinfo is None or terms.not_after.tzinfo is None:
        raise UsageError("terms.time", "a certificate's validity needs time zones")
    if not (
        issuer.not_valid_before_utc
        <= terms.not_before
        < terms.not_after
        <= issuer.not_valid_after_utc
    ):
        raise UsageError("terms.validity", "the validity is not inside the authority's own")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _signing_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issuer_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound as error:
        raise UsageError(
            "authority.certificate", "the authority's certificate has no subject key identifier"
        ) from error
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _private_extension(extension: AkExtension) -> x509.UnrecognizedExtension:
    oid = x509.ObjectIdentifier(AK_EXTENSION_OID)
    return x509.UnrecognizedExtension(oid, encode_ak_extension(extension))
