"""The simulated time-stamping authority (RFC 3161): a root of its own, a signer, `openssl ts`.

    root -> signer, whose one purpose is time-stamping

It lies in a machine's folder under `tsa/`. Its clock is the host's and whoever has the folder has
its key: a time that it states proves nothing, which its anchor's kind, `tsa-simulated`, says.
"""

import datetime as dt
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from enclave_sim.folder import Folder
from enclave_sim.manufacturer import (
    ORGANISATION,
    certificate_pem,
    key_pem,
    key_usage,
    make_crl,
    start_certificate,
)
from laminator.appraise.trust import SIMULATED_TSA
from laminator.enroll.ak_certificate import Authority
from laminator.errors import MachineError, UsageError, shown
from laminator.programs import SEARCH_PATH, find_program
from laminator.run.atomic import File, write_together

MAX_REQUEST = 16 * 1024

_ROOT_NAME = "Laminator simulated time-stamping root"
_SIGNER_NAME = "Laminator simulated time-stamping authority"
_SECONDS = 30.0
# Options of openssl-ts(1). The policy is one of our own, from a random UUID (ITU-T X.667).
_CONFIG = """\
[tsa]
default_tsa = simulated

[simulated]
serial = serial
default_policy = 2.25.485091802517956817264477081902674280
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
signer_digest = sha256
"""


class TimestampAuthority(NamedTuple):
    """An authority that lies in `folder`; the clock of its tokens is the host's."""

    folder: Path
    root: x509.Certificate
    crl: x509.CertificateRevocationList

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make an authority in the new folder `folder`, or open the one that is there by then.

        Raises MachineError.
        """
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        draft = folder.parent / f".{folder.name}-{secrets.token_hex(8)}"
        try:
            draft.mkdir(mode=0o700)
            write_together(_new_files(draft, now))
            draft.rename(folder)
        except OSError as error:
            if not folder.is_dir():
                message = f"cannot make {shown(str(folder))}: {error.strerror}"
                raise MachineError("timestamp.create", message) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the authority that `create` made. Raises MachineError."""
        try:
            root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
            crl = x509.load_pem_x509_crl((folder / "root.crl").read_bytes())
        except (OSError, ValueError) as error:
            message = f"no whole time-stamping authority in {shown(str(folder))}: {error}"
            raise MachineError("timestamp.authority", message) from error
        return cls(folder.resolve(), root, crl)

    @property
    def root_pem(self) -> bytes:
        """The root's certificate, for the trust stores of verifiers."""
        return certificate_pem(self.root)

    def reply(self, request: bytes) -> bytes:
        """Return the TimeStampResp (DER) to a TimeStampReq, a refusal too (RFC 3161, 2.4).

        Raises UsageError for a request that is too large, MachineError where openssl is missing
        or fails.
        """
        if len(request) > MAX_REQUEST:
            detail = f"a request of {len(request)} bytes, limit {MAX_REQUEST}"
            raise UsageError("timestamp.request", detail)
        with tempfile.TemporaryDirectory(prefix="laminator-tsa-") as place:
            work = Path(place)
            (work / "tsa.cnf").write_text(_CONFIG)
            (work / "serial").write_text(f"{_serial():040x}\n")
            (work / "request").write_bytes(request)
            words = self._reply(work)
            try:
                return (work / "response").read_bytes()
            except FileNotFoundError as error:
                message = f"openssl ts did not answer: {words}"
                raise MachineError("timestamp.openssl", message) from error

    def _reply(self, work: Path) -> str:
        """Run openssl in the folder `work`; return its last words, for the case of no answer."""
        program = find_program("openssl")
        if program is None:
            message = "no openssl: install openssl"
            raise MachineError("timestamp.openssl", message)
        signer, key = self.folder / "signer.pem", self.folder / "signer.key"
        words = [program, "ts", "-reply", "-config", "tsa.cnf", "-section", "simulated"]
        words += ["-signer", str(signer), "-inkey", str(key)]
        words += ["-queryfile", "request", "-out", "response"]
        try:
            ended = subprocess.run(
                words,
                cwd=work,
                env={"PATH": SEARCH_PATH},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            message = f"openssl ts did not end within {_SECONDS:.0f} s"
            raise MachineError("timestamp.openssl", message) from error
        return shown(ended.stderr.decode(errors="replace").strip())


def machine_authority(folder: Folder) -> TimestampAuthority:
    """Return a machine's authority, made where it has none yet, and have its trust name it.

    Raises MachineError.
    """
    place = folder.root / "tsa"
    exists = place.is_dir()
    authority = TimestampAuthority.open(place) if exists else TimestampAuthority.create(place)
    anchors, crls = folder.trust / SIMULATED_TSA, folder.trust / "crls"
    name = f"{authority.root.fingerprint(SHA256()).hex()}.pem"
    wanted = [
        File(anchors / name, authority.root_pem, 0o644),
        File(crls / "tsa-root.crl", authority.crl.public_bytes(Encoding.PEM), 0o644),
    ]
    missing = [file for file in wanted if not file.path.exists()]
    if missing:
        _make_folder(anchors)
        write_together(missing)
    return authority


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        message = f"cannot make {shown(str(path))}: {error.strerror}"
        raise MachineError("timestamp.trust", message) from error


def _new_files(folder: Path, now: dt.datetime) -> list[File]:
    """Make both keys and certificates; return the files of an authority in `folder`.

    The list of revoked certificates is good as long as the root, as the manufacturer's are.
    """
    root_key, signer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name = _name(_ROOT_NAME)
    root = Authority(
        start_certificate(root_name, root_key.public_key(), None, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(frozenset({"key_cert_sign", "crl_sign"})), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, SHA256()),
        root_key,
    )
    signer = (
        start_certificate(_name(_SIGNER_NAME), signer_key.public_key(), root, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(frozenset({"digital_signature"})), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(root_key, SHA256())
    )
    return [
        File(folder / "root.key", key_pem(root_key), 0o600),
        File(folder / "root.pem", certificate_pem(root.certificate), 0o644),
        File(folder / "root.crl", make_crl(root, now).public_bytes(Encoding.PEM), 0o644),
        File(folder / "signer.key", key_pem(signer_key), 0o600),
        File(folder / "signer.pem", certificate_pem(signer), 0o644),
    ]


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _serial() -> int:
    """Return a token's number: random, so that no file has to be kept for it (RFC 3161, 2.4.2)."""
    return int.from_bytes(secrets.token_bytes(19))
