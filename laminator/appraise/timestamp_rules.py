"""What a time-stamp token has to keep by itself: one function a check, over parsed values.

Algorithms are SHA-2 with RSA (PKCS #1 v1.5) or ECDSA. docs/adr/0007-time-stamps.md says why the
CMS signature is checked here, and not by a library for time-stamps.
"""

import datetime as dt
import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import ExtendedKeyUsageOID

from laminator.appraise.check import Check, failed, passed
from laminator.appraise.claim_rules import CLOCK_TOLERANCE
from laminator.appraise.path_checks import name_of
from laminator.evidence.encodings import Encoding
from laminator.evidence.timestamp_reply import (
    OID_SHA1,
    OID_SHA256,
    CertificateId,
    Signer,
    SignerId,
    TimestampReply,
    TstInfo,
)

Hash = SHA256 | SHA384 | SHA512

_OID_SHA384 = "2.16.840.1.101.3.4.2.2"
_OID_SHA512 = "2.16.840.1.101.3.4.2.3"
_HASHES: dict[str, Hash] = {OID_SHA256: SHA256(), _OID_SHA384: SHA384(), _OID_SHA512: SHA512()}
# RFC 5754 section 3: rsaEncryption takes the hash of the digest algorithm.
_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_RSA: dict[str, Hash] = {
    "1.2.840.113549.1.1.11": SHA256(),
    "1.2.840.113549.1.1.12": SHA384(),
    "1.2.840.113549.1.1.13": SHA512(),
}
_ECDSA: dict[str, Hash] = {
    "1.2.840.10045.4.3.2": SHA256(),
    "1.2.840.10045.4.3.3": SHA384(),
    "1.2.840.10045.4.3.4": SHA512(),
}


def find_signer(
    signer: Signer, certificates: tuple[x509.Certificate, ...]
) -> x509.Certificate | None:
    """Return the carried certificate that the signer names, by the signed identifiers if several.

    It is no more than the one whose key is tried: a path from it is looked for elsewhere.
    """
    named = [certificate for certificate in certificates if _is_named(signer.id, certificate)]
    exact = [each for each in named if _identified(signer.certificates, each)]
    return next(iter((*exact, *named)), None)


def check_imprint(info: TstInfo, message: bytes) -> Check:
    """`time.imprint`: the token is over this very message, by a hash of the SHA-2 family."""
    hash_ = _HASHES.get(info.hash)
    if hash_ is None:
        return failed("time.imprint", f"the imprint is by {info.hash}, which is not SHA-2")
    if hashlib.new(hash_.name, message).digest() != info.imprint:
        return failed("time.imprint", "the token is over something else")
    return passed("time.imprint", f"the token is over this, by {hash_.name}")


def check_signer(signer: Signer, certificate: x509.Certificate) -> Check:
    """`time.signer`: the signed attributes name the signer's certificate (RFC 5816)."""
    if not signer.certificates:
        return failed("time.signer", "the signed attributes name no certificate")
    if not _identified(signer.certificates, certificate):
        return failed("time.signer", "the signed attributes name another certificate")
    return passed("time.signer", f"the signed attributes name {name_of(certificate)}")


def check_signature(reply: TimestampReply, certificate: x509.Certificate) -> Check:
    """`time.signature`: the signer signed the attributes, and they hold the content's digest."""
    digest_hash = _HASHES.get(reply.signer.digest_algorithm)
    if digest_hash is None:
        return failed("time.signature", f"a digest by {reply.signer.digest_algorithm}, not SHA-2")
    if hashlib.new(digest_hash.name, reply.content).digest() != reply.signer.message_digest:
        return failed("time.signature", "the signed digest is that of another content")
    if not _is_signed(reply.signer, digest_hash, certificate):
        algorithm = reply.signer.signature_algorithm
        return failed("time.signature", f"no valid signature by {algorithm} of the signer's key")
    return passed("time.signature", "the signer signed the token")


def check_eku(certificate: x509.Certificate) -> Check:
    """`time.eku`: the signer's one purpose is time-stamping, critically (RFC 3161 section 2.3)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return failed("time.eku", "the signer's certificate has no extended key usage")
    if list(found.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        usages = ", ".join(usage.dotted_string for usage in found.value)
        return failed("time.eku", f"extended key usage {usages}, not time-stamping alone")
    if not found.critical:
        return failed("time.eku", "the extended key usage is not critical")
    return passed("time.eku", "the signer's one purpose is time-stamping")


def check_not_after(time: dt.datetime, now: dt.datetime) -> Check:
    """`time.future`: the token is not from after the verifier's own time."""
    detail = f"the token's time is {time.isoformat()}, the verifier's {now.isoformat()}"
    is_past = time - now <= dt.timedelta(seconds=CLOCK_TOLERANCE)
    return passed("time.future", detail) if is_past else failed("time.future", detail)


def _is_named(id_: SignerId, certificate: x509.Certificate) -> bool:
    if id_.key is None:
        issuer = certificate.issuer.public_bytes()
        return (id_.issuer, id_.serial) == (issuer, certificate.serial_number)
    try:
        key = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return False
    return key.digest == id_.key


def _identified(identifiers: tuple[CertificateId, ...], certificate: x509.Certificate) -> bool:
    """Tell whether every one of `identifiers` is of `certificate`."""
    return all(_identifies(identifier, certificate) for identifier in identifiers)


def _identifies(identifier: CertificateId, certificate: x509.Certificate) -> bool:
    """Tell whether `identifier` is of `certificate`.

    SHA-1, which ESSCertID has to use, serves: it would take a second preimage, and the signature
    and the path to the anchor hold for the certificate beside it.
    """
    der = certificate.public_bytes(Encoding.DER)
    known = _HASHES.get(identifier.hash)
    if known is None and identifier.hash != OID_SHA1:
        return False
    name = "sha1" if known is None else known.name
    if hashlib.new(name, der, usedforsecurity=False).digest() != identifier.digest:
        return False
    issuer = certificate.issuer.public_bytes()
    return identifier.serial is None or (identifier.issuer, identifier.serial) == (
        issuer,
        certificate.serial_number,
    )


def _is_signed(signer: Signer, digest_hash: Hash, certificate: x509.Certificate) -> bool:
    """Tell whether the key of `certificate` signed the attributes, by an algorithm that counts."""
    key, algorithm = certificate.public_key(), signer.signature_algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and algorithm in _ECDSA:
            key.verify(signer.signature, signer.attributes, ec.ECDSA(_ECDSA[algorithm]))
            return True
        rsa_hash = digest_hash if algorithm == _RSA_ENCRYPTION else _RSA.get(algorithm)
        if isinstance(key, rsa.RSAPublicKey) and rsa_hash is not None:
            key.verify(signer.signature, signer.attributes, padding.PKCS1v15(), rsa_hash)
            return True
    except InvalidSignature:
        pass
    return False
