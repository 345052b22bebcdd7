"""COSE_Sign1 (RFC 9052, section 4.2) in the one encoding that this project writes and accepts.

Tag 18; a protected header of exactly alg, content type, kid and `spki`; an empty unprotected
header; an attached payload. The signer's public key travels in the header, so that a verifier
needs to pin no more than its SHA-256, which is the kid. A key proves nothing by being carried.
"""

import hashlib
from typing import NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from laminator import cbor
from laminator.cbor import Value
from laminator.digest import Digest, sha256
from laminator.errors import MalformedError
from laminator.fields import Fields, malformed, octets, text

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

SIGN1_TAG = b"\xd2"
ALG, CONTENT_TYPE, KID, SPKI = 1, 3, 4, "spki"
ES256, ES384, EDDSA = -7, -35, -8
"""Algorithms of RFC 9053, section 2; EdDSA with Ed25519 only, ECDSA on the curve of its hash."""

MAX_SIGN1 = 256 * 1024 * 1024
MAX_SPKI = 256
_CURVES = {ES256: "secp256r1", ES384: "secp384r1"}
_SIGNATURE_SIZES = {ES256: 64, ES384: 96, EDDSA: 64}


class Sign1(NamedTuple):
    """A parsed message whose signature nobody has checked; `signed` is what was signed."""

    algorithm: int
    content_type: str
    spki: bytes
    payload: bytes
    signature: bytes
    signed: bytes


class VerifiedSign1(NamedTuple):
    """What the holder of `key`, the SHA-256 of a SubjectPublicKeyInfo, signed."""

    key: Digest
    content_type: str
    payload: bytes


def parse_sign1(data: bytes, *, max_bytes: int = MAX_SIGN1) -> Sign1:
    """Parse a COSE_Sign1 of at most `max_bytes` bytes. Raises MalformedError."""
    if data[:1] != SIGN1_TAG:
        raise MalformedError("cose.tag", "no COSE_Sign1: expected CBOR tag 18 (RFC 9052)")
    match cbor.decode(data[1:], max_bytes=max_bytes):
        case (bytes() as protected, dict() as unprotected, bytes() as payload, bytes() as signed):
            pass
        case other:
            raise malformed("cose", "[protected, unprotected, payload, signature]", other)
    if unprotected:
        raise MalformedError("cose.unprotected", "a header that the signature does not cover")
    algorithm, content_type, spki = _header(protected)
    if len(signed) != _SIGNATURE_SIZES[algorithm]:
        message = f"a signature of {len(signed)} bytes, expected {_SIGNATURE_SIZES[algorithm]}"
        raise MalformedError("cose.signature-size", message)
    return Sign1(algorithm, content_type, spki, payload, signed, to_be_signed(protected, payload))


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure of RFC 9052, section 4.4, without external data."""
    return cbor.encode(("Signature1", protected, b"", payload))


def verify_sign1(message: Sign1) -> VerifiedSign1 | None:
    """Return what the carried key signed, or None where its signature does not hold.

    Raises MalformedError where the carried key is none, or none of its algorithm.
    """
    key = _key(message)
    try:
        _verify(key, message)
    except InvalidSignature:
        return None
    return VerifiedSign1(sha256(message.spki), message.content_type, message.payload)


def spki_of(key: PublicKey) -> bytes:
    """Return the one DER encoding of the key's SubjectPublicKeyInfo (RFC 5280)."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def algorithm_of(key: object) -> int | None:
    """Return the algorithm that goes with a public key, None for a key of another kind."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return EDDSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {curve: alg for alg, curve in _CURVES.items()}.get(key.curve.name)
    return None


def _header(protected: bytes) -> tuple[int, str, bytes]:
    if not protected:
        raise MalformedError("cose.protected", "an empty protected header")
    fields = Fields(cbor.decode(protected, max_bytes=4096), "cose.protected")
    algorithm = fields.take(ALG, _algorithm)
    content_type = fields.take(CONTENT_TYPE, text)
    kid = fields.take(KID, octets(32, 32))
    spki = fields.take(SPKI, octets(1, MAX_SPKI))
    fields.close()
    if hashlib.sha256(spki).digest() != kid:
        raise MalformedError("cose.kid", "the kid is not the SHA-256 of the carried key")
    return algorithm, content_type, spki


def _algorithm(value: Value, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in _SIGNATURE_SIZES:
        raise malformed(path, "ES256 (-7), ES384 (-35) or EdDSA (-8)", value)
    return value


def _key(message: Sign1) -> PublicKey:
    try:
        key = load_der_public_key(message.spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("cose.key", "the carried key is no public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) or (
        algorithm_of(key) != message.algorithm
    ):
        raise MalformedError("cose.algorithm", "the carried key is none of the algorithm stated")
    if spki_of(key) != message.spki:
        raise MalformedError("cose.key", "the carried key is not in its one encoding")
    return key


def _verify(key: PublicKey, message: Sign1) -> None:
    """Raise InvalidSignature where the signature does not hold; ECDSA's is r || s."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(message.signature, message.signed)
        return
    half = len(message.signature) // 2
    r, s = (
        int.from_bytes(part, "big") for part in (message.signature[:half], message.signature[half:])
    )
    hash_ = SHA256() if message.algorithm == ES256 else SHA384()
    key.verify(encode_dss_signature(r, s), message.signed, ec.ECDSA(hash_))
