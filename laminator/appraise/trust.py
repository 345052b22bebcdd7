"""The verifier's own trust store: pinned anchors with their kinds, and revocation lists.

A store is a folder::

    DIR/<kind>/*.pem|*.der|*.crt   anchors of that kind, tsa and tsa-simulated among them
    DIR/*.pem|*.der|*.crt          anchors of kind simulated
    DIR/crls/*.crl|*.pem|*.der     certificate revocation lists

or one PEM or DER file, whose certificates are anchors of kind simulated. Only the verifier writes
to it: nothing that a card carries becomes an anchor.
"""

# Importing pathlib would cost a tenth of what the verifier's start may cost:
# ruff: noqa: PTH103, PTH105, PTH110, PTH111, PTH112, PTH118, PTH123

import os
import warnings
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256

from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError, shown
from laminator.evidence.ak_extension import ANCHOR_KINDS
from laminator.evidence.encodings import Encoding

LOWEST_KIND = "simulated"
TSA, SIMULATED_TSA = "tsa", "tsa-simulated"
"""Kinds of anchors for time-stamping authorities, which never vouch for an attestation key."""

TSA_KINDS = (TSA, SIMULATED_TSA)
STORE_KINDS = (*ANCHOR_KINDS, *TSA_KINDS)
MAX_ANCHOR_FILE = 256 * 1024
MAX_CRL_FILE = 16 * 1024 * 1024
MAX_FILES = 1000

_CRLS = "crls"
_ANCHOR_SUFFIXES = (".pem", ".der", ".crt")
_CRL_SUFFIXES = (".crl", ".pem", ".der")
_PEM_START = b"-----BEGIN "
_PEM_CERTIFICATE, _PEM_CRL = b"CERTIFICATE", b"X509 CRL"
_NOT_X509 = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UserWarning,
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
    """Return the user's store: ``laminator/trust`` in the XDG data folder.

    A relative XDG_DATA_HOME is none, as the XDG specification says: else a folder that somebody
    handed over could bring its own anchors to who verifies in it.
    """
    data = os.environ.get("XDG_DATA_HOME", "")
    if not data.startswith("/"):
        data = os.path.expanduser("~/.local/share")
    return os.path.join(data, "laminator", "trust")


def parse_certificate(der: bytes) -> x509.Certificate:
    """Parse one DER certificate completely, so that no later access raises.

    Raises MalformedError.
    """
    try:
        with _doubtful_is_malformed():
            certificate = x509.load_der_x509_certificate(der)
            _touch_certificate(certificate)
            _check_whole_bytes(der, certificate.signature)
    except _NOT_X509 as error:
        raise MalformedError("x509.certificate", "not an X.509 v3 certificate") from error
    return certificate


def parse_crl(der: bytes) -> x509.CertificateRevocationList:
    """Parse one DER revocation list, all but its entries. Raises MalformedError."""
    try:
        with _doubtful_is_malformed():
            crl = x509.load_der_x509_crl(der)
            _touch_crl(crl)
            _check_whole_bytes(der, crl.signature)
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
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    for entry in _entries(path):
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        if entry.name == _CRLS:
            crls = load_crls(entry.path)
        else:
            anchors += _folder_anchors(entry.path, _known_kind(entry.name))
    return TrustStore(_distinct(anchors), crls)


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
    name = f"{anchor.fingerprint.value.hex()}.pem"
    _write(os.path.join(store, anchor.kind), name, anchor.certificate.public_bytes(Encoding.PEM))
    return anchor


def _doubtful_is_malformed() -> "warnings.catch_warnings[None]":
    """Refuse what cryptography only warns of, such as a country's name of more than two letters."""
    return warnings.catch_warnings(action="error", category=UserWarning)


def _check_whole_bytes(der: bytes, signature: bytes) -> None:
    """Refuse a signature with unused bits, which the library takes for the one without them."""
    if not der.endswith(b"\x00" + signature):
        raise ValueError("a signature with unused bits")


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
    if kind not in STORE_KINDS:
        kinds = ", ".join(STORE_KINDS)
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
    entries = [entry for entry in _entries(folder) if entry.name.endswith(suffixes)]
    if len(entries) > MAX_FILES:
        raise UsageError("trust.size", f"{folder} holds {len(entries)} files, limit {MAX_FILES}")
    files = [entry for entry in entries if not entry.is_dir()]
    for entry in files:
        if not entry.is_file() and os.path.exists(entry.path):
            detail = "is neither a file nor a folder; put a certificate or a list in its place"
            raise UsageError("trust.file", f"{entry.path} {detail}")
    return [entry.path for entry in files]


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError("trust.file", f"cannot read {folder}: {error.strerror}") from error


def _read_certificates(file: str) -> list[x509.Certificate]:
    data = _read(file, MAX_ANCHOR_FILE)
    try:
        if _PEM_START not in data:
            return [parse_certificate(data)]
        blocks = _pem_blocks(file, data, _PEM_CERTIFICATE)
        with _doubtful_is_malformed():
            pems = [x509.load_pem_x509_certificate(block) for block in blocks]
        return [parse_certificate(item.public_bytes(Encoding.DER)) for item in pems]
    except (MalformedError, *_NOT_X509) as error:
        raise UsageError("trust.file", f"{file} is not a certificate in PEM or DER") from error


def _read_crls(file: str) -> list[x509.CertificateRevocationList]:
    data = _read(file, MAX_CRL_FILE)
    try:
        if _PEM_START not in data:
            return [parse_crl(data)]
        pems = map(x509.load_pem_x509_crl, _pem_blocks(file, data, _PEM_CRL))
        return [parse_crl(pem.public_bytes(Encoding.DER)) for pem in pems]
    except (MalformedError, *_NOT_X509) as error:
        raise UsageError("trust.file", f"{file} is not a CRL in PEM or DER") from error


def _pem_blocks(file: str, data: bytes, label: bytes) -> list[bytes]:
    """Return the blocks of a PEM file that holds blocks of one `label` and no others.

    Raises UsageError for a marker that is cut, mistyped or another's: its block would be lost.
    """
    begin, end = b"-----BEGIN %s-----" % label, b"-----END %s-----" % label
    markers = [line.strip() for line in data.splitlines() if b"--" in line]
    if markers != [begin, end] * (len(markers) // 2):
        wanted = f"{begin.decode()} and {end.decode()} in turn, and no other block"
        raise UsageError("trust.file", f"{file} is not whole: a PEM file of these has {wanted}")
    return [block + end for block in data.split(end)[:-1]]


def _read(file: str, limit: int) -> bytes:
    try:
        with open(file, "rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UsageError("trust.file", f"cannot read {file}: {error.strerror}") from error
    if len(data) > limit:
        raise UsageError("trust.size", f"{file} is larger than {limit} bytes")
    return data


def _write(folder: str, name: str, data: bytes) -> None:
    """Write atomically, and make the folder."""
    target = os.path.join(folder, name)
    draft = f"{target}.{os.getpid()}.tmp"
    try:
        os.makedirs(folder, exist_ok=True)
        with open(draft, "wb") as stream:
            stream.write(data)
        os.replace(draft, target)
    except OSError as error:
        detail = f"cannot write {target}: {error.strerror}; --trust names another store"
        raise UsageError("trust.store", detail) from error
