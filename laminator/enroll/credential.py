"""MakeCredential in software: a secret that only one TPM, holding one key, can open.

Source: TPM 2.0 Part 1, clause 24 (credential protection), 11.4.10 (KDFa and KDFe) and annexes
B.10.4 and C.6.4 (the seed's exchange under an RSA or an elliptic-curve key).
"""

import os
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from laminator.enroll.key_templates import AES_128_CFB, AES_256_CFB
from laminator.errors import UsageError
from laminator.evidence.tpm_key import public_key
from laminator.evidence.tpm_structures import Public
from laminator.evidence.tpm_wire import ALG_SHA256, ALG_SHA384, sized

_HASHES: dict[int, type[hashes.SHA256 | hashes.SHA384]] = {
    ALG_SHA256: hashes.SHA256,
    ALG_SHA384: hashes.SHA384,
}
# A label is hashed with its terminating zero (Part 1, 11.4.10); KDFa's own zero follows it in
# the key derivation of SP 800-108, so the other two labels stand without theirs.
_SEED_LABEL = b"IDENTITY\x00"
_AES_BLOCK_BYTES = 16


class Credential(NamedTuple):
    """What MakeCredential returns and ActivateCredential takes.

    `blob` is a TPMS_ID_OBJECT and `secret` an encrypted seed: the contents of TPM2B_ID_OBJECT
    and TPM2B_ENCRYPTED_SECRET without their outer sizes.
    """

    blob: bytes
    secret: bytes


class _Seed(NamedTuple):
    value: bytes
    encrypted: bytes


def make_credential(ek: Public, ak_name: bytes, secret: bytes) -> Credential:
    """Protect `secret` so that only the TPM with `ek` and a loaded key named `ak_name` opens it.

    `ak_name` is a TPM Name (two bytes of algorithm, then the digest); `secret` is at most as
    long as a digest of the EK's nameAlg.

    Raises `UsageError` where the EK's algorithms are not those of a TCG template or the secret
    is empty or too long, and `MalformedError` where its public area holds no valid key.
    """
    hash_type = _HASHES.get(ek.name_alg)
    symmetric = ek.parameters.symmetric
    if hash_type is None or symmetric not in (AES_128_CFB, AES_256_CFB):
        raise UsageError("credential.ek", "the endorsement key's algorithms are not supported")
    algorithm = hash_type()
    if not 0 < len(secret) <= algorithm.digest_size:
        raise UsageError(
            "credential.secret", f"the secret must have 1 to {algorithm.digest_size} bytes"
        )
    seed = _exchange_seed(ek, algorithm)
    storage_key = _kdfa(algorithm, seed.value, b"STORAGE", ak_name, symmetric.key_bits // 8)
    integrity_key = _kdfa(algorithm, seed.value, b"INTEGRITY", b"", algorithm.digest_size)
    encryptor = Cipher(algorithms.AES(storage_key), CFB(bytes(_AES_BLOCK_BYTES))).encryptor()
    identity = encryptor.update(sized(secret)) + encryptor.finalize()
    integrity = hmac.HMAC(integrity_key, algorithm)
    integrity.update(identity + ak_name)
    return Credential(blob=sized(integrity.finalize()) + identity, secret=seed.encrypted)


def _exchange_seed(ek: Public, algorithm: hashes.HashAlgorithm) -> _Seed:
    key = public_key(ek)
    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_seed(key, algorithm)
    return _ecdh_seed(key, algorithm)


def _rsa_seed(ek: rsa.RSAPublicKey, algorithm: hashes.HashAlgorithm) -> _Seed:
    value = os.urandom(algorithm.digest_size)
    oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, label=_SEED_LABEL)
    return _Seed(value=value, encrypted=ek.encrypt(value, oaep))


def _ecdh_seed(ek: ec.EllipticCurvePublicKey, algorithm: hashes.HashAlgorithm) -> _Seed:
    # Coordinates are padded to the field's size (Part 1, C.8).
    size = (ek.curve.key_size + 7) // 8
    ephemeral = ec.generate_private_key(ek.curve)
    ours = ephemeral.public_key().public_numbers()
    our_x, our_y = ours.x.to_bytes(size, "big"), ours.y.to_bytes(size, "big")
    ek_x = ek.public_numbers().x.to_bytes(size, "big")
    kdfe = ConcatKDFHash(algorithm, algorithm.digest_size, otherinfo=_SEED_LABEL + our_x + ek_x)
    value = kdfe.derive(ephemeral.exchange(ec.ECDH(), ek))
    return _Seed(value=value, encrypted=sized(our_x) + sized(our_y))


def _kdfa(
    algorithm: hashes.HashAlgorithm, key: bytes, label: bytes, context: bytes, size: int
) -> bytes:
    kdf = KBKDFHMAC(
        algorithm=algorithm,
        mode=Mode.CounterMode,
        length=size,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    )
    return kdf.derive(key)
