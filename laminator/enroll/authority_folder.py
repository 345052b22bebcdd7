"""An authority's folder, readable by its owner alone.

authority.key     the key, encrypted (`laminator.enroll.authority_key`)
authority.pem     its certificate, to be pinned by verifiers
authority.crl     its newest revocation list
state.sqlite      what it remembers (`laminator.enroll.authority_store`)
manufacturers/    TPM manufacturers' roots and CRLs, in the layout of a verifier's store
"""

import datetime as dt
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from laminator.enroll.ak_certificate import Authority
from laminator.enroll.authority_key import (
    RootTerms,
    encrypt_key,
    generate_key,
    load_authority,
    make_root,
)
from laminator.enroll.authority_store import AuthorityStore, create_store
from laminator.enroll.issuance import make_crl
from laminator.errors import MachineError, MalformedError, UsageError, shown
from laminator.run.atomic import write_atomically

_MAX_PEM = 64 * 1024


class AuthorityFolder(NamedTuple):
    """The folder at `path`."""

    path: Path

    @property
    def manufacturers(self) -> Path:
        """The store of manufacturers' roots and CRLs."""
        return self.path / "manufacturers"

    @property
    def root(self) -> Path:
        """The certificate that verifiers pin."""
        return self.path / "authority.pem"

    @property
    def crl(self) -> Path:
        """The newest revocation list."""
        return self.path / "authority.crl"

    def store(self) -> AuthorityStore:
        """Open the state. Raises MachineError where there is no authority."""
        return AuthorityStore(self.path / "state.sqlite")

    def certificate(self) -> x509.Certificate:
        """Return the authority's certificate. Raises MachineError and MalformedError."""
        try:
            return x509.load_pem_x509_certificate(_read(self.root))
        except (ValueError, x509.InvalidVersion) as error:
            raise MalformedError("authority.certificate", "not a certificate in PEM") from error

    def unlock(self, passphrase: bytes) -> Authority:
        """Return the authority with its key. Raises UsageError for a wrong passphrase."""
        return load_authority(_read(self.root), _read(self.path / "authority.key"), passphrase)

    def publish(self, crl: x509.CertificateRevocationList) -> None:
        """Write the newest revocation list. Raises MachineError."""
        write_atomically(self.crl, crl.public_bytes(Encoding.PEM), mode=0o644)


class NewAuthority(NamedTuple):
    """What a new authority is made of: the kind of its key, its passphrase, its certificate."""

    key_kind: str
    passphrase: bytes
    terms: RootTerms
    crl_lifetime: dt.timedelta


def create_authority(path: Path, new: NewAuthority, at: dt.datetime) -> AuthorityFolder:
    """Make an authority at `path`: the whole folder is there at the end, or nothing.

    Raises UsageError where there is something already, and MachineError.
    """
    if path.exists():
        raise UsageError("authority.exists", f"there is something at {shown(str(path))} already")
    key = generate_key(new.key_kind)
    encrypted = encrypt_key(key, new.passphrase)
    authority = Authority(make_root(key, new.terms), key)
    draft = AuthorityFolder(path.parent / f".{path.name}.{secrets.token_hex(4)}")
    try:
        (draft.manufacturers / "crls").mkdir(parents=True)
        draft.path.chmod(0o700)
        write_atomically(draft.path / "authority.key", encrypted, mode=0o600)
        pem = authority.certificate.public_bytes(Encoding.PEM)
        write_atomically(draft.root, pem, mode=0o644)
        create_store(draft.path / "state.sqlite")
        with draft.store() as store:
            draft.publish(make_crl(store, authority, at, new.crl_lifetime))
        draft.path.rename(path)
    except OSError as error:
        message = f"cannot make {shown(str(path))}: {error.strerror}"
        raise MachineError("authority.folder", message) from error
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)
    return AuthorityFolder(path)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_PEM)
    except OSError as error:
        message = (
            f"cannot read {shown(str(path))}: {error.strerror}; "
            "make an authority: laminator authority init"
        )
        raise MachineError("authority.none", message) from error
