"""Which keys and signature algorithms a certificate chain may use."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.x509.oid import SignatureAlgorithmOID

from laminator.errors import shown

MIN_RSA_BITS = 2048
MIN_RSA_EXPONENT = 65_537

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_HASHES = ("sha256", "sha384", "sha512")
_SIGNATURES = frozenset(
    {
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
        SignatureAlgorithmOID.RSASSA_PSS,
    }
)


def chain_weakness(chain: tuple[x509.Certificate, ...]) -> str:
    """Return what is too weak in `chain`, from leaf to anchor; empty where nothing is.

    The anchor's signature does not count: the verifier pinned the certificate itself.
    """
    for certificate in chain[:-1]:
        weakness = _signature_weakness(certificate)
        if weakness:
            return f"{shown(certificate.subject.rfc4514_string())} is signed with {weakness}"
    for certificate in chain:
        weakness = key_weakness(certificate)
        if weakness:
            return f"{shown(certificate.subject.rfc4514_string())} has {weakness}"
    return ""


def hash_weakness(hash_: HashAlgorithm | None) -> str:
    """Return what is wrong with a signature's hash; empty for SHA-256, SHA-384, SHA-512."""
    found = "no hash" if hash_ is None else hash_.name
    return "" if found in _HASHES else found


def _signature_weakness(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    if oid not in _SIGNATURES:
        return f"algorithm {oid.dotted_string}"
    return hash_weakness(certificate.signature_hash_algorithm)


def key_weakness(certificate: x509.Certificate) -> str:
    """Return what is wrong with a certificate's key; empty for a strong RSA or P-curve key."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.name in _CURVES else f"a key on {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_weakness(key)
    return "a key that is neither RSA nor ECDSA"


def _rsa_weakness(key: rsa.RSAPublicKey) -> str:
    if key.key_size < MIN_RSA_BITS:
        return f"an RSA key of {key.key_size} bits"
    exponent = key.public_numbers().e
    is_sound = exponent >= MIN_RSA_EXPONENT and exponent % 2 == 1
    return "" if is_sound else f"an RSA key with the exponent {exponent:#x}"
