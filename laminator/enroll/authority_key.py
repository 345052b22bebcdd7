"""An authority's own key and root certificate, and how the key lies on disk.

The key is PKCS#8 under PBES2 with scrypt and AES-256-CBC (RFC 8018, RFC 7914, RFC 5958): what
`openssl pkcs8 -topk8 -scrypt` writes, with more work to guess a passphrase. cryptography's own
BestAvailableEncryption derives the key with 2048 rounds of PBKDF2 only, which is too cheap to
guess for a file that may be carried about.
"""

import base64
import datetime as dt
import hashlib
import os
import warnings
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from laminator.enroll.ak_certificate import Authority, AuthorityKey, signing_hash
from laminator.errors import MalformedError, UsageError

KEY_KINDS = ("p384", "p256", "rsa3072")
MIN_PASSPHRASE = 8
MAX_PASSPHRASE = 1024

# 16 MiB of memory, five times over: OpenSSL's own limit for a key file is 32 MiB.
_SCRYPT_COST, _SCRYPT_BLOCK, _SCRYPT_PARALLEL = 1 << 14, 8, 5
_SCRYPT_MEMORY = 64 * 1024 * 1024
_SALT_BYTES, _IV_BYTES, _KEY_BYTES = 16, 16, 32
_EXPONENT = 65537
_MAX_NAME = 64

# Object identifiers as DER: id-PBES2, id-scrypt, aes256-CBC-PAD.
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")
_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
_SHORT = 0x80


class RootTerms(NamedTuple):
    """A root certificate's common name and validity (time zone required)."""

    common_name: str
    not_before: dt.datetime
    not_after: dt.datetime


def generate_key(kind: str) -> AuthorityKey:
    """Return a new key of one of `KEY_KINDS`. Raises UsageError for another kind."""
    if kind == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa3072":
        return rsa.generate_private_key(public_exponent=_EXPONENT, key_size=3072)
    raise UsageError("authority.key-kind", f"no key of kind {kind}; there are: {KEY_KINDS}")


def make_root(key: AuthorityKey, terms: RootTerms) -> x509.Certificate:
    """Return a self-signed root that issues AK certificates and CRLs, and no other authority.

    Raises UsageError for an empty or too long name (RFC 5280, ub-common-name: 64 characters).
    """
    if not 0 < len(terms.common_name) <= _MAX_NAME or not terms.common_name.isprintable():
        raise UsageError("authority.name", f"a name has 1 to {_MAX_NAME} printable characters")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, terms.common_name)])
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(terms.not_before)
        .not_valid_after(terms.not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_issuing(), critical=True)
        .add_extension(ski, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
    )
    return builder.sign(key, signing_hash(key))


def encrypt_key(key: AuthorityKey, passphrase: bytes) -> bytes:
    """Return the key as an encrypted PKCS#8 file in PEM.

    Raises UsageError for a passphrase of fewer than `MIN_PASSPHRASE` bytes.
    """
    if not MIN_PASSPHRASE <= len(passphrase) <= MAX_PASSPHRASE:
        limits = f"{MIN_PASSPHRASE} to {MAX_PASSPHRASE}"
        raise UsageError("authority.passphrase", f"the passphrase must have {limits} bytes")
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, iv = os.urandom(_SALT_BYTES), os.urandom(_IV_BYTES)
    padder = padding.PKCS7(algorithms.AES.block_size).padder()
    encryptor = Cipher(algorithms.AES(_derive(passphrase, salt)), modes.CBC(iv)).encryptor()
    padded = padder.update(plain) + padder.finalize()
    encrypted = encryptor.update(padded) + encryptor.finalize()
    kdf = _der(_SEQUENCE, _SCRYPT, _der(_SEQUENCE, _der(_OCTETS, salt), *_scrypt_costs()))
    cipher = _der(_SEQUENCE, _AES_256_CBC, _der(_OCTETS, iv))
    scheme = _der(_SEQUENCE, _PBES2, _der(_SEQUENCE, kdf, cipher))
    return _pem(_der(_SEQUENCE, scheme, _der(_OCTETS, encrypted)))


def decrypt_key(data: bytes, passphrase: bytes) -> AuthorityKey:
    """Return the key of an encrypted PKCS#8 file in PEM, as OpenSSL writes them too.

    Raises UsageError for a wrong passphrase, MalformedError for another file or an unencrypted
    key.
    """
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in data:
        raise MalformedError("authority.key", "the key file is no encrypted PKCS#8 key in PEM")
    try:
        key = load_pem_private_key(data, passphrase)
    except (ValueError, TypeError) as error:
        message = "the passphrase does not open the authority's key"
        raise UsageError("authority.passphrase", message) from error
    except UnsupportedAlgorithm as error:
        raise MalformedError("authority.key", "a key or encryption of an unknown kind") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise MalformedError("authority.key", "neither an RSA nor an elliptic-curve key")
    return key


def load_authority(certificate: bytes, key: bytes, passphrase: bytes) -> Authority:
    """Return the authority of a PEM certificate and its encrypted key. Raises LaminatorError."""
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):
            loaded = x509.load_pem_x509_certificate(certificate)
    except (ValueError, x509.InvalidVersion, UserWarning) as error:
        raise MalformedError("authority.certificate", "not a certificate in PEM") from error
    return Authority(loaded, decrypt_key(key, passphrase))


def _derive(passphrase: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(
        passphrase,
        salt=salt,
        n=_SCRYPT_COST,
        r=_SCRYPT_BLOCK,
        p=_SCRYPT_PARALLEL,
        maxmem=_SCRYPT_MEMORY,
        dklen=_KEY_BYTES,
    )


def _scrypt_costs() -> tuple[bytes, ...]:
    numbers = (_SCRYPT_COST, _SCRYPT_BLOCK, _SCRYPT_PARALLEL, _KEY_BYTES)
    return tuple(
        _der(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers
    )


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < _SHORT:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, _SHORT | len(length)]) + length + content


def _pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    label = b"ENCRYPTED PRIVATE KEY"
    return b"\n".join((b"-----BEGIN %b-----" % label, *lines, b"-----END %b-----" % label, b""))


def _issuing() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
