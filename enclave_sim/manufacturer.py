"""The simulated manufacturer: one PKI for ECC and one for RSA, EK certificates, CRLs.

    root -> EK intermediate -> EK certificates
    root -> AK authority    -> AK certificates (laminator.enroll shapes them)

Sources: TCG EK Credential Profile for TPM Family 2.0, clause 3.2 (EK certificates); RFC 5280.
Every authority's name contains SIMULATED, and no key leaves the machine's folder: whoever has the
folder can sign whatever he likes, which is why the roots are of the kind `simulated`.
"""

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from enclave_sim.folder import Folder, write_file
from laminator.enroll.ak_certificate import Authority, AuthorityKey, signing_hash
from laminator.enroll.ek_certificate import EK_CERTIFICATE_OID
from laminator.evidence.tpm_key import PublicKey

Kind = Literal["ecc", "rsa"]
KINDS: tuple[Kind, ...] = ("ecc", "rsa")

ORGANISATION = "Laminator SIMULATED machine"

_ROLES = ("root", "ek", "ak")
_NAMES = {"root": "Root", "ek": "EK Intermediate", "ak": "AK Authority"}
_YEARS = 20
_DAY = dt.timedelta(days=1)
_LIFETIME = 365 * _YEARS * _DAY
_SKEW = dt.timedelta(minutes=5)
_RSA_BITS = 2048
_EXPONENT = 65537
# TCG attributes: tpmManufacturer, tpmModel, tpmVersion (EK Credential Profile, 3.1.2).
_TPM_NAME = (
    ("2.23.133.2.1", "id:00000000"),
    ("2.23.133.2.2", "SIMULATED swtpm"),
    ("2.23.133.2.3", "id:00020000"),
)


class Pki(NamedTuple):
    """One root with its two intermediates, all of one kind of key."""

    kind: Kind
    root: Authority
    ek: Authority
    ak: Authority


def make_pki(serial: str, now: dt.datetime) -> dict[Kind, Pki]:
    """Return fresh PKIs for a machine with this serial number. RSA keys are made in threads."""
    with ThreadPoolExecutor(len(_ROLES)) as pool:
        rsa_keys = [pool.submit(_rsa_key) for _ in _ROLES]
        ecc = _pki("ecc", (_ecc_key(), _ecc_key(), _ecc_key()), serial, now)
        first, second, third = (key.result() for key in rsa_keys)
    return {"ecc": ecc, "rsa": _pki("rsa", (first, second, third), serial, now)}


def sign_ek_certificate(key: PublicKey, pki: Pki, now: dt.datetime) -> x509.Certificate:
    """Return the certificate of an endorsement key, after the EK Credential Profile.

    The subject is empty, so its alternative name, a directory name with the TPM's maker, model
    and version, is critical.
    """
    builder = (
        start_certificate(x509.Name([]), key, pki.ek, now)
        .add_extension(_tpm_name(), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(_ek_usage(key)), critical=True)
        .add_extension(x509.ExtendedKeyUsage([EK_CERTIFICATE_OID]), critical=False)
    )
    return builder.sign(pki.ek.key, signing_hash(pki.ek.key))


def write_pki(folder: Folder, pkis: dict[Kind, Pki], now: dt.datetime) -> None:
    """Write keys and certificates to the folder, anchors and CRLs to its trust store."""
    for place in (folder.pki, folder.trust / "simulated", folder.trust / "crls"):
        place.mkdir(parents=True)
    for kind, pki in pkis.items():
        for role, authority in _authorities(pki):
            stem = f"{kind}-{role}"
            write_file(folder.pki / f"{stem}.key", key_pem(authority.key))
            write_file(
                folder.pki / f"{stem}.pem", certificate_pem(authority.certificate), mode=0o644
            )
            crl = make_crl(authority, now).public_bytes(serialization.Encoding.PEM)
            write_file(folder.trust / "crls" / f"{stem}.crl", crl, mode=0o644)
        anchor = folder.trust / "simulated" / f"{kind}-root.pem"
        write_file(anchor, certificate_pem(pki.root.certificate), mode=0o644)


def load_pki(folder: Folder, kind: Kind) -> Pki:
    """Return what `write_pki` wrote."""
    root, ek, ak = (_load_authority(folder.pki / f"{kind}-{role}") for role in _ROLES)
    return Pki(kind, root, ek, ak)


def make_crl(
    authority: Authority,
    now: dt.datetime,
    revoked: tuple[x509.RevokedCertificate, ...] = (),
    number: int = 1,
) -> x509.CertificateRevocationList:
    """Return the authority's complete revocation list, good for as long as its certificate."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - _SKEW)
        .next_update(authority.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issuer_key(authority), critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, signing_hash(authority.key))


def start_certificate(
    subject: x509.Name, key: PublicKey, issuer: Authority | None, now: dt.datetime
) -> x509.CertificateBuilder:
    """Return a certificate with names, key, a random serial number and 20 years, no purposes.

    Where no `issuer` is given it is one that its own subject issues.
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
    )
    if issuer is None:
        return builder
    return builder.add_extension(_issuer_key(issuer), critical=False)


def key_usage(allowed: frozenset[str]) -> x509.KeyUsage:
    """Return the key usage with only the bits `allowed`, named as in cryptography."""
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in allowed for name in names})


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: AuthorityKey) -> bytes:
    """Return the key as PEM (PKCS #8), not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _pki(
    kind: Kind,
    keys: tuple[AuthorityKey, AuthorityKey, AuthorityKey],
    serial: str,
    now: dt.datetime,
) -> Pki:
    root = _authority("root", keys[0], None, (kind, serial), now)
    ek = _authority("ek", keys[1], root, (kind, serial), now)
    return Pki(kind, root, ek, _authority("ak", keys[2], root, (kind, serial), now))


def _authority(
    role: str, key: AuthorityKey, issuer: Authority | None, label: tuple[str, str], now: dt.datetime
) -> Authority:
    kind, serial = label
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"SIMULATED {_NAMES[role]} {kind.upper()} {serial}"
            ),
        ]
    )
    length = 1 if issuer is None else 0
    usage = frozenset({"key_cert_sign", "crl_sign"})
    builder = (
        start_certificate(subject, key.public_key(), issuer, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        .add_extension(key_usage(usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = key if issuer is None else issuer.key
    return Authority(builder.sign(signer, signing_hash(signer)), key)


def _issuer_key(issuer: Authority) -> x509.AuthorityKeyIdentifier:
    found = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _tpm_name() -> x509.SubjectAlternativeName:
    attributes = [x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in _TPM_NAME]
    name = x509.Name([x509.RelativeDistinguishedName([attribute]) for attribute in attributes])
    return x509.SubjectAlternativeName([x509.DirectoryName(name)])


def _ek_usage(key: PublicKey) -> frozenset[str]:
    return frozenset({"key_encipherment" if isinstance(key, rsa.RSAPublicKey) else "key_agreement"})


def _authorities(pki: Pki) -> Iterator[tuple[str, Authority]]:
    yield from zip(_ROLES, (pki.root, pki.ek, pki.ak), strict=True)


def _ecc_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(_EXPONENT, _RSA_BITS)


def _load_authority(stem: Path) -> Authority:
    key = serialization.load_pem_private_key(stem.with_suffix(".key").read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(stem.with_suffix(".pem").read_bytes())
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError(f"{stem}.key is neither an RSA nor an elliptic-curve key")
    return Authority(certificate, key)
