"""A machine's side before the authority's: its run counter, and a request for a certificate."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from laminator.attest.tpm import AttestationTpm, HierarchyAuths
from laminator.enroll.authority import check_counter
from laminator.enroll.ek_certificate import certificate_key, parse_certificate
from laminator.enroll.exchange import MAX_CERTIFICATES, EnrolmentRequest
from laminator.enroll.key_templates import EK_TEMPLATES, EkTemplate
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import MachineError, MalformedError, UsageError, shown
from laminator.evidence.tpm_key import PublicKey, public_key
from laminator.evidence.tpm_structures import (
    RUN_COUNTER_INDEX,
    WRITTEN,
    parse_nv_public,
    parse_public,
)
from laminator.run.atomic import write_atomically

COUNTER_FILE = "counter.auth"
_SECRET_BYTES = 32
# TCG EK Credential Profile 2.5, clause 2.2.1.5.2: certificates above the EK's own, in NV.
_FIRST_CHAIN_INDEX = 0x01C0_0100
_MAX_CHAIN_INDICES = 16
_DER_SEQUENCE, _LONG_FORM = 0x30, 0x80


def prepare_counter(tcti: str, auths: HierarchyAuths, folder: Path) -> HierarchyAuths:
    """Make sure that the TPM has a run counter that this user can use; return its secret too.

    Where there is none, the owner defines one with a fresh secret, which lies in
    `folder`/counter.auth before the index exists. A counter gets its final Name by a first
    increment. Raises MachineError, EnrolmentRefusedError for an index of another kind.
    """
    with AttestationTpm(tcti, auths) as tpm:
        defined = tpm.has_nv_index(RUN_COUNTER_INDEX)
    known = auths._replace(counter=_counter_secret(folder, defined=defined))
    with AttestationTpm(tcti, known) as tpm:
        if not defined:
            tpm.define_counter(RUN_COUNTER_INDEX)
        public = tpm.counter_public(RUN_COUNTER_INDEX)
        try:
            check_counter(public)
        except (EnrolmentRefusedError, MalformedError) as error:
            message = (
                f"NV index {RUN_COUNTER_INDEX:#x} is in use for something else; whoever may "
                f"remove it: tpm2_nvundefine {RUN_COUNTER_INDEX:#x}"
            )
            raise EnrolmentRefusedError("counter.public", message) from error
        if not parse_nv_public(public).attributes & WRITTEN:
            tpm.increment_counter(RUN_COUNTER_INDEX)
        _prove_secret(tpm, folder)
    return known


def make_request(
    tpm: AttestationTpm, templates: Sequence[EkTemplate], given: Sequence[bytes] = ()
) -> EnrolmentRequest:
    """Return the request for the attestation key of `tpm`, whose counter is prepared.

    The EK is the first of `templates` (preferred first) that has a certificate among `given`
    (DER) or in NV; the other given ones, and those that the TPM keeps, go along as candidates for
    intermediates. Raises MachineError where no EK has a certificate, and UsageError for too many.
    """
    ek, certificate = _endorsed_key(tpm, templates, given)
    others = [item for item in (*given, *_kept_chain(tpm)) if item != certificate]
    certificates = (certificate, *dict.fromkeys(others))
    if len(certificates) > MAX_CERTIFICATES:
        message = f"{len(certificates)} EK certificates, a request takes {MAX_CERTIFICATES}"
        raise UsageError("enrol.certificates", message)
    counter = tpm.counter_public(RUN_COUNTER_INDEX)
    return EnrolmentRequest(tpm.ak_public, ek, certificates, counter)


def ek_templates(name: str | None) -> tuple[EkTemplate, ...]:
    """Return the templates to try: all, or the one of that name. Raises UsageError."""
    found = tuple(template for template in EK_TEMPLATES if name in (None, template.name))
    if not found:
        raise UsageError("enrol.ek", f"no endorsement key template {shown(name)}")
    return found


def split_certificates(data: bytes) -> tuple[bytes, ...]:
    """Split what one or more NV indices hold into DER values; padding ends it."""
    found = []
    while len(data) > 2 and data[0] == _DER_SEQUENCE:  # noqa: PLR2004 - tag and length
        size, head = data[1], 2
        if size >= _LONG_FORM:
            head += size - _LONG_FORM
            size = int.from_bytes(data[2:head], "big")
        if head + size > len(data):
            break
        found.append(data[: head + size])
        data = data[head + size :]
    return tuple(found)


def _endorsed_key(
    tpm: AttestationTpm, templates: Sequence[EkTemplate], given: Sequence[bytes]
) -> tuple[bytes, bytes]:
    for template in templates:
        kept = tpm.endorsement_certificate(template)
        candidates = [item for item in (*given, kept) if item is not None]
        if not candidates:
            continue
        public = tpm.endorsement_public(template)
        key = public_key(parse_public(public))
        for certificate in candidates:
            if _key_of(certificate) == key:
                return public, certificate
    message = (
        "no endorsement key of this TPM has a certificate, in the TPM or given; the "
        "manufacturer's site may have it: --ek-certificate FILE"
    )
    raise MachineError("enrol.ek", message)


def _key_of(certificate: bytes) -> PublicKey | None:
    try:
        return certificate_key(parse_certificate(certificate))
    except MalformedError:
        return None


def _kept_chain(tpm: AttestationTpm) -> tuple[bytes, ...]:
    """Return the certificates above the EK's own that the TPM keeps; indices follow each other."""
    data = b""
    for index in range(_FIRST_CHAIN_INDEX, _FIRST_CHAIN_INDEX + _MAX_CHAIN_INDICES):
        part = tpm.read_nv(index)
        if part is None:
            break
        data += part
    return split_certificates(data)


def _counter_secret(folder: Path, *, defined: bool) -> bytes:
    path = folder / COUNTER_FILE
    if path.exists():
        try:
            return bytes.fromhex(path.read_text(encoding="ascii"))
        except ValueError as error:
            raise MalformedError("enrol.counter", f"{shown(str(path))} is no hex") from error
    if defined:
        return b""
    secret = secrets.token_bytes(_SECRET_BYTES)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, secret.hex().encode(), mode=0o600)
    return secret


def _prove_secret(tpm: AttestationTpm, folder: Path) -> None:
    """Have the counter certified once, so that a wrong secret is told now."""
    try:
        tpm.certify_counter(RUN_COUNTER_INDEX, bytes(32))
    except MachineError as error:
        path = folder / COUNTER_FILE
        message = f"the run counter's secret (in hex) is not the one in {shown(str(path))}"
        raise MachineError("enrol.counter", f"{message}: {error.message}") from error
