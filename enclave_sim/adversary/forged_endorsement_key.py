"""ActivateCredential in software: the inverse of MakeCredential, written apart from it.

Source: TPM 2.0 Part 1, clause 24 and 11.4.10, with hashlib alone for the derivations.
"""

import hashlib
import hmac

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from enclave_sim.adversary.forged_manufacturer import SoftwareEk
from laminator.enroll.credential import Credential

_HASHES = {0x000B: "sha256", 0x000C: "sha384"}


class IntegrityError(Exception):
    """TPM_RC_INTEGRITY."""


def activate(ek: SoftwareEk, ak_name: bytes, credential: Credential) -> bytes:
    """Return the secret; raises IntegrityError for a key of another Name."""
    algorithm = _HASHES[ek.public.name_alg]
    digest_size = hashlib.new(algorithm).digest_size
    symmetric = ek.public.parameters.symmetric
    if symmetric is None:
        raise TypeError
    seed = _seed(ek, credential.secret, algorithm)
    integrity, identity = _take(credential.blob)
    key = _kdfa(algorithm, seed, b"INTEGRITY", b"", digest_size)
    if hmac.digest(key, identity + ak_name, algorithm) != integrity:
        raise IntegrityError
    storage = _kdfa(algorithm, seed, b"STORAGE", ak_name, symmetric.key_bits // 8)
    decryptor = Cipher(algorithms.AES(storage), CFB(bytes(16))).decryptor()
    secret, rest = _take(decryptor.update(identity) + decryptor.finalize())
    if rest:
        raise IntegrityError
    return secret


def _seed(ek: SoftwareEk, encrypted: bytes, algorithm: str) -> bytes:
    if isinstance(ek.private, rsa.RSAPrivateKey):
        oaep_hash = hashes.SHA256()
        oaep = padding.OAEP(padding.MGF1(oaep_hash), oaep_hash, label=b"IDENTITY\0")
        return ek.private.decrypt(encrypted, oaep)
    x, rest = _take(encrypted)
    y, _ = _take(rest)
    point = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ek.private.curve
    )
    z = ek.private.exchange(ec.ECDH(), point.public_key())
    own = ek.private.public_key().public_numbers().x.to_bytes(len(x), "big")
    counter = (1).to_bytes(4, "big")
    return hashlib.new(algorithm, counter + z + b"IDENTITY\0" + x + own).digest()


def _kdfa(algorithm: str, key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    fixed = label + b"\0" + context + (8 * size).to_bytes(4, "big")
    return hmac.digest(key, (1).to_bytes(4, "big") + fixed, algorithm)[:size]


def _take(data: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], data[end:]
