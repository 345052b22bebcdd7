"""Signing COSE_Sign1 messages as `laminator.cose` reads them."""

from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from laminator import cbor
from laminator.cose import (
    ALG,
    CONTENT_TYPE,
    ES256,
    KID,
    SIGN1_TAG,
    SPKI,
    algorithm_of,
    spki_of,
    to_be_signed,
)
from laminator.digest import sha256
from laminator.errors import UsageError

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def sign1(key: PrivateKey, content_type: str, payload: bytes) -> bytes:
    """Return the tagged COSE_Sign1 of `payload`. Raises UsageError for a key of another kind."""
    public = key.public_key()
    algorithm = algorithm_of(public)
    if algorithm is None:
        message = "expected a key on P-256 or P-384, or an Ed25519 key; make one with keygen"
        raise UsageError("endorse.key", message)
    spki = spki_of(public)
    header: dict[cbor.Key, cbor.Encodable] = {
        ALG: algorithm,
        CONTENT_TYPE: content_type,
        KID: sha256(spki).value,
        SPKI: spki,
    }
    protected = cbor.encode(header)
    signature = _sign(key, algorithm, to_be_signed(protected, payload))
    return SIGN1_TAG + cbor.encode((protected, {}, payload, signature))


def _sign(key: PrivateKey, algorithm: int, signed: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    size, hash_ = (32, SHA256()) if algorithm == ES256 else (48, SHA384())
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hash_)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
