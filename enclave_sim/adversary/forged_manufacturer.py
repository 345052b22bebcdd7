"""A TPM manufacturer in memory: root, authority, EK certificates and CRLs, each part changeable."""

import dataclasses
import datetime as dt
import functools
from collections.abc import Iterable
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from enclave_sim.manufacturer import key_usage
from laminator.enroll.ak_certificate import Authority, AuthorityKey
from laminator.enroll.ek_certificate import EK_CERTIFICATE_OID, EkAnchor, EkTrust
from laminator.enroll.key_templates import EK_ECC_P256, EK_ECC_P384, EkTemplate
from laminator.evidence.tpm_key import PublicKey
from laminator.evidence.tpm_structures import EccPublic, Public, RsaPublic

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
_TPM_NAMES = {"2.23.133.2.1": "id:00001014", "2.23.133.2.2": "test", "2.23.133.2.3": "id:1"}


class Extension(NamedTuple):
    """An extension of a certificate to make."""

    value: x509.ExtensionType
    critical: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """What a certificate says; tests replace one part."""

    key: PublicKey
    extensions: tuple[Extension, ...]
    subject: str = ""
    not_before: dt.datetime = NOW - 100 * DAY
    not_after: dt.datetime = NOW + 100 * DAY
    serial: int = 7

    def without(self, *kinds: type[x509.ExtensionType]) -> "Profile":
        """Return the profile without the extensions of these kinds."""
        kept = tuple(each for each in self.extensions if not isinstance(each.value, kinds))
        return dataclasses.replace(self, extensions=kept)

    def having(self, value: x509.ExtensionType, *, critical: bool = False) -> "Profile":
        """Return the profile with `value` in place of an extension of its kind."""
        rest = self.without(type(value))
        return dataclasses.replace(rest, extensions=(*rest.extensions, Extension(value, critical)))


class Manufacturer(NamedTuple):
    """A root, an authority for EK certificates below it, and trust in them."""

    root: Authority
    intermediate: Authority
    trust: EkTrust

    @property
    def chain(self) -> list[x509.Certificate]:
        """The certificates between an EK certificate and the root."""
        return [self.intermediate.certificate]


def usage(*set_bits: str) -> x509.KeyUsage:
    """Return a key usage with the named bits set."""
    return key_usage(frozenset(set_bits))


def tpm_names(oids: Iterable[str] = tuple(_TPM_NAMES)) -> x509.SubjectAlternativeName:
    """Return the subject alternative name of a TPM: manufacturer, model, version."""
    attributes = [x509.NameAttribute(x509.ObjectIdentifier(oid), _TPM_NAMES[oid]) for oid in oids]
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(attributes))])


def ek_profile(key: PublicKey) -> Profile:
    """Return the EK Credential Profile's certificate for `key`."""
    bit = "key_encipherment" if isinstance(key, rsa.RSAPublicKey) else "key_agreement"
    return Profile(
        key=key,
        extensions=(
            Extension(x509.BasicConstraints(ca=False, path_length=None), critical=True),
            Extension(usage(bit), critical=True),
            Extension(x509.ExtendedKeyUsage([EK_CERTIFICATE_OID])),
            Extension(tpm_names(), critical=True),
        ),
    )


def ca_profile(key: PublicKey, subject: str, path_length: int | None = None) -> Profile:
    """Return what an authority's certificate says."""
    return Profile(
        key=key,
        subject=subject,
        extensions=(
            Extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True),
            Extension(usage("key_cert_sign", "crl_sign"), critical=True),
            Extension(x509.SubjectKeyIdentifier.from_public_key(key)),
        ),
        not_before=NOW - 1000 * DAY,
        not_after=NOW + 1000 * DAY,
    )


def sign(profile: Profile, issuer: str, key: AuthorityKey) -> x509.Certificate:
    """Sign a certificate in the name of `issuer`."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(profile.subject))
        .issuer_name(_name(issuer))
        .public_key(profile.key)
        .serial_number(profile.serial)
        .not_valid_before(profile.not_before)
        .not_valid_after(profile.not_after)
    )
    for extension in profile.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(key, hashes.SHA256())


def crl(
    authority: Authority, *revoked: int, age: dt.timedelta = DAY, lifetime: dt.timedelta = 30 * DAY
) -> x509.CertificateRevocationList:
    """Return a CRL of `authority`, `age` old at NOW, that names the revoked serial numbers."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(NOW - age)
        .next_update(NOW - age + lifetime)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - age).build())
    return builder.sign(authority.key, hashes.SHA256())


def ca(subject: str, issuer: Authority | None = None, serial: int = 1) -> Authority:
    """Return an authority; without an issuer, a root."""
    key = ec.generate_private_key(ec.SECP256R1())
    profile = dataclasses.replace(ca_profile(key.public_key(), subject), serial=serial)
    if issuer is None:
        return Authority(sign(profile, subject, key), key)
    issuer_name = issuer.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return Authority(sign(profile, str(issuer_name), issuer.key), key)


@functools.cache
def manufacturer() -> Manufacturer:
    """Return the manufacturer, the same one at every call."""
    root = ca("Root")
    intermediate = ca("EK CA", root, serial=2)
    trust = EkTrust((EkAnchor(root.certificate, "simulated"),), (crl(root), crl(intermediate)))
    return Manufacturer(root, intermediate, trust)


def issue_ek(profile: Profile) -> x509.Certificate:
    """Sign an EK certificate by the manufacturer's intermediate authority."""
    return sign(profile, "EK CA", manufacturer().intermediate.key)


class SoftwareEk(NamedTuple):
    """An endorsement key whose private half the test holds."""

    public: Public
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def software_ek(template: EkTemplate = EK_ECC_P256) -> SoftwareEk:
    """Return the one key with the template's public area."""
    return _software_ek(template)


@functools.cache
def _software_ek(template: EkTemplate) -> SoftwareEk:
    if isinstance(template.public, RsaPublic):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        modulus = key.public_key().public_numbers().n.to_bytes(256, "big")
        return SoftwareEk(template.public._replace(modulus=modulus), key)
    curve: ec.EllipticCurve = ec.SECP384R1() if template is EK_ECC_P384 else ec.SECP256R1()
    ecc_key = ec.generate_private_key(curve)
    return SoftwareEk(with_point(template.public, ecc_key.public_key()), ecc_key)


def with_point(public: Public, key: ec.EllipticCurvePublicKey) -> Public:
    """Return `public` with the point of `key`."""
    if not isinstance(public, EccPublic):
        raise TypeError
    size = (key.curve.key_size + 7) // 8
    numbers = key.public_numbers()
    return public._replace(x=numbers.x.to_bytes(size, "big"), y=numbers.y.to_bytes(size, "big"))


def _name(common_name: str) -> x509.Name:
    if not common_name:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
