"""Make a machine: its TPM, its PKI, its endorsement certificates, its run counter."""

import datetime as dt
import secrets
import shutil
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim import commands
from enclave_sim.folder import (
    Folder,
    Manufactured,
    Secrets,
    write_manufactured,
    write_policy,
    write_secrets,
)
from enclave_sim.manufacturer import Kind, Pki, make_pki, sign_ek_certificate, write_pki
from enclave_sim.swtpm import Swtpm
from enclave_sim.timestamp_authority import machine_authority
from laminator.attest.tpm import AttestationTpm, HierarchyAuths
from laminator.enroll.key_templates import EK_RSA_2048, EK_TEMPLATES
from laminator.errors import MachineError, UsageError, shown
from laminator.evidence.tpm_key import public_key
from laminator.evidence.tpm_structures import (
    AUTHREAD,
    NO_DA,
    PLATFORMCREATE,
    RUN_COUNTER_INDEX,
    NvPublic,
    parse_public,
)
from laminator.evidence.tpm_wire import ALG_SHA256

AUTH_BYTES = 32

# Bits of TPMA_NV (TPM 2.0 Part 2, 13.4); an EK certificate is the platform's, readable by all.
_PPWRITE, _PPREAD, _OWNERREAD = 1 << 0, 1 << 16, 1 << 17
_CERTIFICATE_ATTRIBUTES = _PPWRITE | _PPREAD | _OWNERREAD | AUTHREAD | NO_DA | PLATFORMCREATE


def make_machine(path: Path) -> Folder:
    """Make a machine; `enclave_sim.machine.create` says where, and what this raises."""
    root = path.parent.resolve() / path.name
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError("machine.exists", f"{shown(str(path))} is there already, and not empty")
    try:
        root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = Folder(Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent)))
    except OSError as error:
        message = f"cannot make {shown(str(path))}: {error.strerror}"
        raise MachineError("machine.create", message) from error
    try:
        _manufacture(draft)
        draft.root.rename(root)
    except OSError as error:
        if not Folder(root).is_complete:
            message = f"cannot make {shown(str(path))}: {error.strerror}"
            raise MachineError("machine.create", message) from error
    finally:
        shutil.rmtree(draft.root, ignore_errors=True)
    return Folder(root)


def _manufacture(folder: Folder) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    serial = secrets.token_hex(4)
    kept = Secrets(*(secrets.token_bytes(AUTH_BYTES) for _ in Secrets._fields))
    folder.tpm_state.mkdir()
    (folder.root / "ak").mkdir()
    folder.hidden.mkdir()
    with Swtpm(folder.tpm_state, folder.log) as tpm:
        pkis = make_pki(serial, now)
        counter = _endorse(tpm, pkis, kept, now)
        _set_auths(tpm, kept)
        tpm.power_off()
    write_pki(folder, pkis, now)
    machine_authority(folder)
    write_secrets(folder, kept)
    write_policy(folder, ())
    write_manufactured(folder, Manufactured(counter, serial))


def _endorse(tpm: Swtpm, pkis: dict[Kind, Pki], kept: Secrets, now: dt.datetime) -> bytes:
    """Write the EK certificates to NV, define the run counter; return its public area."""
    with AttestationTpm(tpm.connect(), HierarchyAuths(counter=kept.counter)) as attestation:
        publics = {template: attestation.endorsement_public(template) for template in EK_TEMPLATES}
        attestation.define_counter(RUN_COUNTER_INDEX, "platform")
        attestation.increment_counter(RUN_COUNTER_INDEX)
        counter = attestation.counter_public(RUN_COUNTER_INDEX)
    for template, public in publics.items():
        pki = pkis["rsa" if template is EK_RSA_2048 else "ecc"]
        certificate = sign_ek_certificate(public_key(parse_public(public)), pki, now)
        _store(tpm, template.certificate_index, certificate.public_bytes(Encoding.DER))
    return counter


def _store(tpm: Swtpm, index: int, content: bytes) -> None:
    public = NvPublic(index, ALG_SHA256, _CERTIFICATE_ATTRIBUTES, b"", len(content))
    commands.define_nv(tpm.exchange, public, b"")
    commands.write_nv(tpm.exchange, index, content, b"")


def _set_auths(tpm: Swtpm, kept: Secrets) -> None:
    for hierarchy, auth in (
        (commands.RH_OWNER, kept.owner),
        (commands.RH_ENDORSEMENT, kept.endorsement),
        (commands.RH_LOCKOUT, kept.lockout),
    ):
        commands.change_hierarchy_auth(tpm.exchange, hierarchy, b"", auth)
