"""A time-stamping authority that signs whatever it is told, and the DER to say it in.

    tsa = tsa_pki.authority()                      # root -> authority -> signer, all valid
    reply = tsa_pki.reply(tsa, message)            # a good response over `message` an hour ago
    bad = tsa_pki.reply(tsa, message, imprint_hash="sha1")

Each keyword is a field of `Stamp`, changed before everything is signed.
"""

import datetime as dt
import hashlib
from functools import cache
from typing import NamedTuple, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from enclave_sim.adversary import forged_pki as pki
from laminator.appraise.trust import Anchor, TrustStore

HOUR = dt.timedelta(hours=1)
TIME = pki.NOW - HOUR
TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING

_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_ECDSA = {"sha1": "1.2.840.10045.4.1"}
_ECDSA |= {f"sha{n}": f"1.2.840.10045.4.3.{i}" for i, n in ((2, 256), (3, 384), (4, 512))}
_RSA = {"sha1": "1.2.840.113549.1.1.5"}
_RSA |= {f"sha{n}": f"1.2.840.113549.1.1.{i}" for i, n in ((11, 256), (12, 384), (13, 512))}
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_SIGNED_DATA, _TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
ESS, ESS_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"


# --- DER


def tlv(tag: int, *contents: bytes) -> bytes:
    """Return one element; a length below 2^16."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(digits)]) + digits + content


def sequence(*contents: bytes) -> bytes:
    return tlv(0x30, *contents)


def set_of(*contents: bytes) -> bytes:
    return tlv(0x31, *contents)


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def octets(value: bytes) -> bytes:
    return tlv(0x04, value)


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    return tlv(0x06, *map(_base128, (40 * first + second, *rest)))


def algorithm(dotted: str, *parameters: bytes) -> bytes:
    return sequence(oid(dotted), *parameters)


def generalized(time: dt.datetime) -> bytes:
    fraction = f".{time.microsecond:06}".rstrip("0").rstrip(".") if time.microsecond else ""
    return tlv(0x18, f"{time:%Y%m%d%H%M%S}{fraction}Z".encode())


def _base128(arc: int) -> bytes:
    octets_ = [arc & 0x7F]
    while arc := arc >> 7:
        octets_.append(arc & 0x7F | 0x80)
    return bytes(reversed(octets_))


# --- the authority


class Tsa(NamedTuple):
    """An authority: its signer is `signer`, which `issuer` certified."""

    root: pki.Authority
    issuer: pki.Authority
    signer: pki.Authority

    def trust(self, *crls: x509.CertificateRevocationList, kind: str = "tsa") -> TrustStore:
        """Return a store with the root as an anchor, and current lists where none is given."""
        own = (pki.crl(self.root), pki.crl(self.issuer))
        return TrustStore((Anchor(kind, self.root.certificate),), crls or own)

    def certified(self, **changes: object) -> "Tsa":
        """Return the authority with a signer's certificate changed in the fields of `pki.Spec`."""
        spec = signer_spec(self.signer.key)._replace(**changes)  # type: ignore[arg-type]
        certificate = pki.sign(spec, self.issuer, self.issuer.key)
        return self._replace(signer=pki.Authority(self.signer.key, certificate))


def signer_spec(key: pki.PrivateKey) -> pki.Spec:
    return pki.Spec(
        "time-stamping signer",
        key.public_key(),
        ca=False,
        usage=pki.SIGN,
        extras=(eku(TIME_STAMPING),),
    )


def eku(*usages: x509.ObjectIdentifier, critical: bool = True) -> pki.Extra:
    return (x509.ExtendedKeyUsage(usages), critical)


@cache
def authority(label: str = "TSA", kind: str = "p256") -> Tsa:
    """Return a valid authority, the same one for the same arguments."""
    root = pki.root(f"{label} root")
    issuer = pki.authority(root, f"{label} authority", path_length=0)
    key = pki.key(f"{label} signer", kind)
    certificate = pki.sign(signer_spec(key), issuer, issuer.key)
    return Tsa(root, issuer, pki.Authority(key, certificate))


# --- responses


class Stamp(NamedTuple):
    """A response to make; change one field with `_replace`.

    `info` and `attributes` take the place of what they are named for, `ess` that of the ESS
    attributes, `certificates` that of the signer and its issuer. `claimed` is what the response
    names as its signer, `key` what signs.
    """

    message: bytes
    time: dt.datetime = TIME
    imprint_hash: str = "sha256"
    digest_hash: str = "sha256"
    signature_hash: str = "sha256"
    signature_oid: str | None = None
    accuracy: bytes = b""
    tail: bytes = b""
    info: bytes | None = None
    signed_content: bytes | None = None
    ess: tuple[bytes, ...] | None = None
    attributes: bytes | None = None
    certificates: tuple[bytes, ...] | None = None
    signer_id: bytes | None = None
    key: pki.PrivateKey | None = None
    status: bytes | None = None
    signers: int = 1
    unsigned: bytes = b""
    signature: bytes | None = None


def reply(tsa: Tsa, message: bytes, **changes: object) -> bytes:
    """Return the authority's TimeStampResp over `message`."""
    stamp = Stamp(message)._replace(**changes)  # type: ignore[arg-type]
    content = tst_info(stamp) if stamp.info is None else stamp.info
    carried = (tsa.signer.der, tsa.issuer.der) if stamp.certificates is None else stamp.certificates
    signer = _signer_info(tsa, stamp, content)
    signed_data = sequence(
        integer(3),
        set_of(algorithm(_OIDS[stamp.digest_hash])),
        sequence(oid(_TST_INFO), tlv(0xA0, octets(content))),
        tlv(0xA0, *sorted(carried)) if carried else b"",
        set_of(*[signer] * stamp.signers),
    )
    status = sequence(integer(0)) if stamp.status is None else stamp.status
    return sequence(status, sequence(oid(_SIGNED_DATA), tlv(0xA0, signed_data)))


def tst_info(stamp: Stamp) -> bytes:
    """Return a TSTInfo; `tail` stands for what follows the accuracy."""
    imprint = hashlib.new(stamp.imprint_hash, stamp.message).digest()
    return sequence(
        integer(1),
        oid("1.2.3.4.1"),
        sequence(algorithm(_OIDS[stamp.imprint_hash], tlv(0x05)), octets(imprint)),
        integer(0x1234),
        generalized(stamp.time),
        stamp.accuracy,
        stamp.tail,
    )


def ess_v2(certificate: x509.Certificate, hash_: str = "sha256", serial: bytes = b"") -> bytes:
    """Return the attribute SigningCertificateV2 with one identifier."""
    digest = octets(hashlib.new(hash_, pki.der(certificate)).digest())
    named = b"" if hash_ == "sha256" else algorithm(_OIDS[hash_])
    return attribute(ESS_V2, sequence(sequence(sequence(named, digest, serial))))


def ess_v1(certificate: x509.Certificate, serial: bytes = b"") -> bytes:
    """Return the attribute SigningCertificate with one identifier."""
    digest = octets(hashlib.sha1(pki.der(certificate), usedforsecurity=False).digest())
    return attribute(ESS, sequence(sequence(sequence(digest, serial))))


def issuer_serial(issuer: x509.Name, serial: int) -> bytes:
    return sequence(sequence(tlv(0xA4, issuer.public_bytes())), integer(serial))


def issuer_and_serial(certificate: x509.Certificate) -> bytes:
    return sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number))


def attribute(dotted: str, *values: bytes) -> bytes:
    return sequence(oid(dotted), set_of(*values))


def attributes(stamp: Stamp, signer: x509.Certificate, content: bytes) -> tuple[bytes, ...]:
    """Return the signed attributes of a good token over `content`."""
    covered = content if stamp.signed_content is None else stamp.signed_content
    digest = hashlib.new(stamp.digest_hash, covered).digest()
    ess = (ess_v2(signer),) if stamp.ess is None else stamp.ess
    return (
        attribute(_CONTENT_TYPE, oid(_TST_INFO)),
        attribute(_MESSAGE_DIGEST, octets(digest)),
        *ess,
    )


def _signer_info(tsa: Tsa, stamp: Stamp, content: bytes) -> bytes:
    certificate, key = tsa.signer.certificate, stamp.key or tsa.signer.key
    signed = stamp.attributes
    if signed is None:
        signed = b"".join(sorted(attributes(stamp, certificate, content)))
    return sequence(
        integer(1),
        issuer_and_serial(certificate) if stamp.signer_id is None else stamp.signer_id,
        algorithm(_OIDS[stamp.digest_hash]),
        tlv(0xA0, signed),
        algorithm(stamp.signature_oid or _signature_oid(key, stamp.signature_hash)),
        octets(_sign(key, set_of(signed), stamp) if stamp.signature is None else stamp.signature),
        stamp.unsigned,
    )


def _signature_oid(key: pki.PrivateKey, hash_: str) -> str:
    return (_RSA if isinstance(key, rsa.RSAPrivateKey) else _ECDSA)[hash_]


def _sign(key: pki.PrivateKey, message: bytes, stamp: Stamp) -> bytes:
    hash_ = cast("hashes.HashAlgorithm", getattr(hashes, stamp.signature_hash.upper())())
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hash_)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hash_))
    return key.sign(message)
