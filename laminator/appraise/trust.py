"""The verifier's own trust store: pinned anchors with their kinds, and revocation lists.

A store is a folder::

    DIR/<kind>/*.pem|*.der|*.crt   anchors of that kind
    DIR/*.pem|*.der|*.crt          anchors of kind simulated
    DIR/crls/*.crl|*.pem|*.der     certificate revocation lists

or one PEM or DER file, whose certificates are anchors of kind simulated. Only the verifier writes
to it: nothing that a card carries becomes an anchor.
"""

# Importing pathlib would cost a tenth of what the verifier's start may cost:
# ruff: noqa: PTH103, PTH105, PTH111, PTH112, PTH113, PTH118, PTH123, PTH208

import os
import warnings
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.utils import CryptographyDeprecationWarning

from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError, shown
from laminator.evidence.ak_extension import ANCHOR_KINDS
from laminator.evidence.encodings import Encoding

LOWEST_KIND = "simulated"
MAX_ANCHOR_FILE = 256 * 1024
MAX_CRL_FILE = 16 * 1024 * 1024
MAX_FILES = 1000

_CRLS = "crls"
_ANCHOR_SUFFIXES = (".pem", ".der", ".crt")
_CRL_SUFFIXES = (".crl", ".pem", ".der")
_PEM_START = b"-----BEGIN "
_PEM_CRL_END = b"-----END X509 CRL-----"
_NOT_X509 = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,
)


class Anchor(NamedTuple):
    """A certificate that the verifier pinned, and what kind of root it said that it is."""

    kind: str
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> Digest:
        """SHA-256 of the certificate's DER."""
        return Digest("sha-256", self.certificate.fingerprint(SHA256()))

    @property
    def subject(self) -> str:
        """The subject in the form of RFC 4514."""
        return self.certificate.subject.rfc4514_string()


class TrustStore(NamedTuple):
    """Pinned anchors and the revocation lists that the verifier holds."""

    anchors: tuple[Anchor, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()

    def with_crls(self, crls: tuple[x509.CertificateRevocationList, ...]) -> "TrustStore":
        """Return a store with `crls` too."""
        return self._replace(crls=self.crls + crls)


def default_store() -> str:
    """Return the user's store: ``laminator/trust`` in the XDG data folder."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local/share")
    return os.path.join(data, "laminator", "trust")


def parse_certificate(der: bytes) -> x509.Certificate:
    """Parse one DER certificate completely, so that no later access raises.

    Raises MalformedError.
    """
    try:
        with _deprecated_is_malformed():
            certificate = x509.load_der_x509_certificate(der)
            _touch_certificate(certificate)
    except _NOT_X509 as error:
        raise MalformedError("x509.certificate", "not an X.509 v3 certificate") from error
    return certificate


def parse_crl(der: bytes) -> x509.CertificateRevocationList:
    """Parse one DER revocation list, all but its entries. Raises MalformedError."""
    try:
        with _deprecated_is_malformed():
            crl = x509.load_der_x509_crl(der)
            _touch_crl(crl)
    except _NOT_X509 as error:
        raise MalformedError("x509.crl", "not a certificate revocation list") from error
    return crl


def load_trust(path: str) -> TrustStore:
    """Read a store, a folder or one file of anchors.

    Raises UsageError for a path that is not there, a file that is neither PEM nor DER, and an
    anchor that stands there as two kinds.
    """
    if not os.path.isdir(path):
        return TrustStore(_distinct([Anchor(LOWEST_KIND, c) for c in _read_certificates(path)]))
    anchors = _folder_anchors(path, LOWEST_KIND)
    for entry in sorted(os.listdir(path)):
        folder = os.path.join(path, entry)
        if entry == _CRLS or entry.startswith(".") or not os.path.isdir(folder):
            continue
        anchors += _folder_anchors(folder, _known_kind(entry))
    crls = os.path.join(path, _CRLS)
    return TrustStore(_distinct(anchors), load_crls(crls) if os.path.isdir(crls) else ())


def load_crls(path: str) -> tuple[x509.CertificateRevocationList, ...]:
    """Read the revocation lists of a folder or of one file, PEM or DER. Raises UsageError."""
    files = _files(path, _CRL_SUFFIXES) if os.path.isdir(path) else [path]
    return tuple(crl for file in files for crl in _read_crls(file))


def add_anchor(store: str, kind: str, file: str) -> Anchor:
    """Pin the one certificate in `file`, PEM or DER, as an anchor of `kind` in folder `store`.

    Raises UsageError for an unknown kind, for a file with no or several certificates, and for
    a certificate that may not sign others, or that is there as another kind.
    """
    certificates = _read_certificates(file)
    if len(certificates) != 1:
        raise UsageError("trust.anchor", f"{file} holds {len(certificates)} certificates, not one")
    anchor = Anchor(_known_kind(kind), certificates[0])
    if not _is_ca(anchor.certificate):
        raise UsageError("trust.anchor", f"the certificate in {file} is not an authority's")
    present = load_trust(store).anchors if os.path.isdir(store) else ()
    _distinct([*present, anchor])
    folder = os.path.join(store, anchor.kind)
    os.makedirs(folder, exist_ok=True)
    target = os.path.join(folder, f"{anchor.fingerprint.value.hex()}.pem")
    _write(target, anchor.certificate.public_bytes(Encoding.PEM))
    return anchor


def _deprecated_is_malformed() -> "warnings.catch_warnings[None]":
    """Refuse now what cryptography will refuse later, such as a serial number that is negative."""
    return warnings.catch_warnings(action="error", category=CryptographyDeprecationWarning)


def _touch_certificate(certificate: x509.Certificate) -> None:
    """Make cryptography parse what it would parse on access."""
    certificate.public_key()
    _ = certificate.extensions, certificate.subject.rfc4514_string(), certificate.issuer
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    _ = certificate.signature_hash_algorithm, certificate.signature_algorithm_parameters


def _touch_crl(crl: x509.CertificateRevocationList) -> None:
    _ = crl.extensions, crl.issuer, crl.last_update_utc, crl.next_update_utc
    _ = crl.signature_hash_algorithm


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _known_kind(kind: str) -> str:
    if kind not in ANCHOR_KINDS:
        kinds = ", ".join(ANCHOR_KINDS)
        raise UsageError("trust.kind", f"{shown(kind)} is no kind of anchor; the kinds: {kinds}")
    return kind


def _distinct(anchors: list[Anchor]) -> tuple[Anchor, ...]:
    """Drop repeated anchors; refuse one certificate as two kinds."""
    by_fingerprint: dict[Digest, Anchor] = {}
    for anchor in anchors:
        other = by_fingerprint.setdefault(anchor.fingerprint, anchor)
        if other.kind != anchor.kind:
            detail = f"{anchor.fingerprint} stands there as {other.kind} and as {anchor.kind}"
            raise UsageError("trust.anchor", f"anchor {detail}; keep one")
    return tuple(by_fingerprint.values())


def _folder_anchors(folder: str, kind: str) -> list[Anchor]:
    files = _files(folder, _ANCHOR_SUFFIXES)
    return [Anchor(kind, certificate) for file in files for certificate in _read_certificates(file)]


def _files(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    names = sorted(name for name in os.listdir(folder) if name.endswith(suffixes))
    if len(names) > MAX_FILES:
        raise UsageError("trust.size", f"{folder} holds {len(names)} files, limit {MAX_FILES}")
    paths = (os.path.join(folder, name) for name in names)
    return [path for path in paths if os.path.isfile(path)]


def _read_certificates(file: str) -> list[x509.Certificate]:
    data = _read(file, MAX_ANCHOR_FILE)
    try:
        if _PEM_START not in data:
            return [parse_certificate(data)]
        certificates = x509.load_pem_x509_certificates(data)
        return [parse_certificate(item.public_bytes(Encoding.DER)) for item in certificates]
    except (MalformedError, *_NOT_X509) as error:
        raise UsageError("trust.file", f"{file} is not a certificate in PEM or DER") from error


def _read_crls(file: str) -> list[x509.CertificateRevocationList]:
    data = _read(file, MAX_CRL_FILE)
    try:
        if _PEM_START not in data:
            return [parse_crl(data)]
        blocks = data.split(_PEM_CRL_END)[:-1]
        pems = [x509.load_pem_x509_crl(block + _PEM_CRL_END) for block in blocks]
        return [parse_crl(pem.public_bytes(Encoding.DER)) for pem in pems]
    except (MalformedError, *_NOT_X509) as error:
        raise UsageError("trust.file", f"{file} is not a CRL in PEM or DER") from error


def _read(file: str, limit: int) -> bytes:
    try:
        with open(file, "rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UsageError("trust.file", f"cannot read {file}: {error.strerror}") from error
    if len(data) > limit:
        raise UsageError("trust.size", f"{file} is larger than {limit} bytes")
    return data


def _write(target: str, data: bytes) -> None:
    """Write atomically."""
    draft = f"{target}.{os.getpid()}.tmp"
    with open(draft, "wb") as stream:
        stream.write(data)
    os.replace(draft, target)
