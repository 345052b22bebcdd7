"""TPM public areas as keys of `cryptography`, and signatures over TPMS_ATTEST by them."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from laminator.digest import Digest, sha256
from laminator.errors import MalformedError
from laminator.evidence import tpm_wire as wire
from laminator.evidence.encodings import Encoding, PublicFormat
from laminator.evidence.tpm_structures import (
    EccPublic,
    EcdsaSignature,
    Public,
    RsaPublic,
    Signature,
)

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_DEFAULT_EXPONENT = 65537
_CURVES: dict[int, ec.EllipticCurve] = {
    wire.ECC_NIST_P256: ec.SECP256R1(),
    wire.ECC_NIST_P384: ec.SECP384R1(),
    wire.ECC_NIST_P521: ec.SECP521R1(),
}
_HASHES: dict[int, hashes.HashAlgorithm] = {
    wire.ALG_SHA256: hashes.SHA256(),
    wire.ALG_SHA384: hashes.SHA384(),
    wire.ALG_SHA512: hashes.SHA512(),
}


def public_key(public: Public) -> PublicKey:
    """Return the key of a TPMT_PUBLIC.

    Raises MalformedError for a curve other than P-256, P-384 and P-521, a point that is not on
    it, and an RSA modulus that has not `key_bits` bits or a bad exponent.
    """
    try:
        return _ecc_key(public) if isinstance(public, EccPublic) else _rsa_key(public)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("tpm.key", "not a valid public key", path="public") from error


def spki(public: Public) -> bytes:
    """Return the key's SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) in DER. Raises MalformedError."""
    return public_key(public).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_digest(public: Public) -> Digest:
    """Return SHA-256 of the key's SubjectPublicKeyInfo. Raises MalformedError."""
    return sha256(spki(public))


def signature_holds(key: PublicKey, signature: Signature, message: bytes) -> bool:
    """Return whether `signature` is one over `message` by `key`, SHA-256 or better.

    Part 1, clause 11.4.10 (RSASSA, RSAPSS with any salt length) and annex C (ECDSA, of which
    anybody can make (r, n - s) from (r, s); r and s are not longer than the curve's field).
    """
    hash_ = _HASHES.get(signature.hash)
    if hash_ is None:
        return False
    try:
        _verify(key, signature, message, hash_)
    except (InvalidSignature, ValueError):
        return False
    return True


def _verify(
    key: PublicKey, signature: Signature, message: bytes, hash_: hashes.HashAlgorithm
) -> None:
    if isinstance(signature, EcdsaSignature) and isinstance(key, ec.EllipticCurvePublicKey):
        if max(len(signature.r), len(signature.s)) > (key.key_size + 7) // 8:
            raise InvalidSignature
        r, s = int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big")
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hash_))
    elif not isinstance(signature, EcdsaSignature) and isinstance(key, rsa.RSAPublicKey):
        scheme: padding.PKCS1v15 | padding.PSS = padding.PKCS1v15()
        if signature.algorithm == wire.ALG_RSAPSS:
            scheme = padding.PSS(padding.MGF1(hash_), padding.PSS.AUTO)
        key.verify(signature.signature, message, scheme, hash_)
    else:
        raise InvalidSignature


def _ecc_key(public: EccPublic) -> PublicKey:
    curve = _CURVES.get(public.parameters.curve)
    if curve is None:
        raise MalformedError("tpm.key", f"unknown curve {public.parameters.curve:#06x}")
    x, y = int.from_bytes(public.x, "big"), int.from_bytes(public.y, "big")
    return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()


def _rsa_key(public: RsaPublic) -> PublicKey:
    modulus = int.from_bytes(public.modulus, "big")
    if modulus.bit_length() != public.parameters.key_bits:
        bits = public.parameters.key_bits
        raise MalformedError("tpm.key", f"modulus of {modulus.bit_length()} bits, not {bits}")
    exponent = public.parameters.exponent or _DEFAULT_EXPONENT
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()
