"""Certificates and revocation lists made to order, one field changed at a time."""

import datetime as dt
from functools import cache
from typing import NamedTuple, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from enclave_sim.manufacturer import key_usage
from laminator.appraise.trust import Anchor, TrustStore
from laminator.evidence.ak_extension import AK_EXTENSION_OID, AkExtension, encode_ak_extension

NOW = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
YEAR = dt.timedelta(days=365)
AK_EKU = "2.23.133.8.3"
EK_EKU = "2.23.133.8.1"
SIGN = frozenset({"digital_signature"})
ISSUE = frozenset({"key_cert_sign", "crl_sign"})

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
Hash: TypeAlias = hashes.SHA256 | hashes.SHA384 | hashes.SHA512
Extra: TypeAlias = tuple[x509.ExtensionType, bool]


class Authority(NamedTuple):
    """A key and its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)


class Spec(NamedTuple):
    """A certificate to make; change one field with `_replace`."""

    subject: str
    key: PublicKey
    ca: bool | None = True
    path_length: int | None = None
    usage: frozenset[str] | None = ISSUE
    eku: tuple[str, ...] = ()
    not_before: dt.datetime = NOW - YEAR
    not_after: dt.datetime = NOW + YEAR
    serial: int | None = None
    extras: tuple[Extra, ...] = ()
    hash: Hash = hashes.SHA256()
    pss: bool = False


def key(label: str, kind: str = "p256") -> PrivateKey:
    """Return the key of that label and kind, the same at every call of one test run."""
    return _key(label, kind)


@cache
def _key(label: str, kind: str) -> PrivateKey:  # noqa: ARG001 - the cache's key
    curves: dict[str, ec.EllipticCurve] = {
        "p256": ec.SECP256R1(),
        "p384": ec.SECP384R1(),
        "p521": ec.SECP521R1(),
        "k256": ec.SECP256K1(),
    }
    if kind in curves:
        return ec.generate_private_key(curves[kind])
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    bits, _, exponent = kind.removeprefix("rsa").partition("e")
    return rsa.generate_private_key(int(exponent or 65537), int(bits))


def name(subject: str) -> x509.Name:
    """Return a name with `subject` as its common name, the empty name without one."""
    if not subject:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])


def sign(spec: Spec, issuer: Authority | None, issuer_key: PrivateKey) -> x509.Certificate:
    """Return the certificate of `spec`, self-signed without an issuer."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(spec.subject))
        .issuer_name(issuer.certificate.subject if issuer else name(spec.subject))
        .public_key(spec.key)
        .serial_number(spec.serial or x509.random_serial_number())
        .not_valid_before(spec.not_before)
        .not_valid_after(spec.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(spec.key), critical=False)
        .add_extension(_authority_id(issuer_key), critical=False)
    )
    for extension, critical in _extensions(spec):
        builder = builder.add_extension(extension, critical=critical)
    return _sign(builder, spec, issuer_key)


def root(label: str = "root", kind: str = "p384", **changes: object) -> Authority:
    """Return a self-signed authority."""
    own = key(label, kind)
    spec = Spec(label, own.public_key())._replace(**changes)  # type: ignore[arg-type]
    return Authority(own, sign(spec, None, own))


def authority(issuer: Authority, label: str, kind: str = "p256", **changes: object) -> Authority:
    """Return an authority that `issuer` certified."""
    own = key(label, kind)
    spec = Spec(label, own.public_key())._replace(**changes)  # type: ignore[arg-type]
    return Authority(own, sign(spec, issuer, issuer.key))


def ak_spec(public_key: PublicKey, counter_name: bytes, anchor: str = "simulated") -> Spec:
    """Return what the certificate of an attestation key says."""
    value = encode_ak_extension(AkExtension(anchor, counter_name))
    extra = x509.UnrecognizedExtension(ObjectIdentifier(AK_EXTENSION_OID), value)
    return Spec(
        "attestation key",
        public_key,
        ca=False,
        usage=SIGN,
        eku=(AK_EKU,),
        extras=((extra, False),),
    )


class Revoked(NamedTuple):
    """An entry of a revocation list."""

    serial: int
    date: dt.datetime = NOW - DAY
    reason: x509.ReasonFlags | None = None
    extras: tuple[Extra, ...] = ()


class CrlSpec(NamedTuple):
    """A revocation list to make; change one field with `_replace`."""

    issued: dt.datetime = NOW - DAY
    expires: dt.datetime = NOW + 30 * DAY
    revoked: tuple[Revoked, ...] = ()
    number: int | None = 1
    extras: tuple[Extra, ...] = ()
    key_id_of: PrivateKey | None = None
    issuer: str | None = None
    hash: hashes.SHA224 | hashes.SHA256 = hashes.SHA256()


def crl(
    issuer: Authority, spec: CrlSpec | None = None, key: PrivateKey | None = None
) -> x509.CertificateRevocationList:
    """Return a list in `issuer`'s name, signed with `key` or its own."""
    spec, signer = spec or CrlSpec(), key or issuer.key
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(spec.issuer) if spec.issuer else issuer.certificate.subject)
        .last_update(spec.issued)
        .next_update(spec.expires)
        .add_extension(_authority_id(spec.key_id_of or signer), critical=False)
    )
    if spec.number is not None:
        builder = builder.add_extension(x509.CRLNumber(spec.number), critical=False)
    for extension, critical in spec.extras:
        builder = builder.add_extension(extension, critical=critical)
    for entry in spec.revoked:
        builder = builder.add_revoked_certificate(_entry(entry))
    return builder.sign(signer, None if _is_edwards(signer) else spec.hash)


def store(
    anchor: Authority,
    *crls: x509.CertificateRevocationList,
    kind: str = "simulated",
) -> TrustStore:
    """Return a trust store with one anchor."""
    return TrustStore((Anchor(kind, anchor.certificate),), crls)


def der(certificate: x509.Certificate) -> bytes:
    """Return the certificate in DER."""
    return certificate.public_bytes(Encoding.DER)


def _sign(builder: x509.CertificateBuilder, spec: Spec, issuer_key: PrivateKey) -> x509.Certificate:
    if _is_edwards(issuer_key):
        return builder.sign(issuer_key, None)
    if spec.pss:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        return builder.sign(issuer_key, spec.hash, rsa_padding=pss)
    return builder.sign(issuer_key, spec.hash)


def _is_edwards(key: PrivateKey) -> bool:
    return isinstance(key, ed25519.Ed25519PrivateKey)


def _extensions(spec: Spec) -> list[Extra]:
    extensions: list[Extra] = list(spec.extras)
    if spec.ca is not None:
        extensions.append((x509.BasicConstraints(spec.ca, spec.path_length), True))
    if spec.usage is not None:
        extensions.append((key_usage(spec.usage), True))
    if spec.eku:
        usages = [ObjectIdentifier(usage) for usage in spec.eku]
        extensions.append((x509.ExtendedKeyUsage(usages), False))
    return extensions


def _authority_id(issuer_key: PrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())


def _entry(revoked: Revoked) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder().serial_number(revoked.serial).revocation_date(revoked.date)
    )
    if revoked.reason is not None:
        builder = builder.add_extension(x509.CRLReason(revoked.reason), critical=False)
    for extension, critical in revoked.extras:
        builder = builder.add_extension(extension, critical=critical)
    return builder.build()
