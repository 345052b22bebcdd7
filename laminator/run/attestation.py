"""The run's hold on the hardware: its key, its number, its log, its two quotes."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from laminator.attest.tpm import AttestationTpm, CounterCertification, SignedAttest
from laminator.card import ConceptualMessage
from laminator.claims import Launch, Run
from laminator.digest import Digest
from laminator.enroll.ak_label import labelled
from laminator.enroll.key_templates import AK_ECDSA_P256, AK_RSASSA_2048
from laminator.errors import MachineError, MalformedError, UsageError
from laminator.eventlog import (
    counter_record,
    start_binding,
    start_quote_binding,
    start_record,
)
from laminator.evidence import tpm_format
from laminator.evidence.tpm_key import key_digest, spki
from laminator.evidence.tpm_structures import NvCertification, parse_attest, parse_public
from laminator.plan import PlannedMachine
from laminator.run.enrolment import enrol
from laminator.run.log import RunLog
from laminator.run.planned import Planned
from laminator.run.setup import Setup

AK_TEMPLATES = {"ecc": AK_ECDSA_P256, "rsa": AK_RSASSA_2048}
_RUN_ID_BYTES = 16
_LOOKING = b"laminator-next-run-number"


class Attestation(NamedTuple):
    """An open TPM whose attestation key has certificates; `key` is SHA-256 of its SPKI."""

    tpm: AttestationTpm
    certificates: tuple[bytes, ...]
    key: bytes
    counter_index: int
    launch: Launch

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The PCRs that quotes select."""
        is_drtm = self.launch.type.startswith("drtm-")
        return (tpm_format.LAUNCH_PCR, tpm_format.RUN_PCR) if is_drtm else (tpm_format.RUN_PCR,)


class SpentNumber(NamedTuple):
    """A run whose number is spent, and the TPM's certification of it."""

    run: Run
    counter: CounterCertification


@contextmanager
def open_attestation(setup: Setup, key: str, label: str | None) -> Iterator[Attestation]:
    """Open the TPM, make the attestation key (`ecc` or `rsa`) of `label` and find its certificates.

    Raises MachineError.
    """
    with AttestationTpm(setup.tpm, setup.auths, labelled(AK_TEMPLATES[key], label)) as tpm:
        public = parse_public(tpm.ak_public)
        if setup.enrol_fd is not None:
            certificates = enrol(tpm, setup.enrol_fd, key)
        else:
            certificates = _matching(setup.certificates or (), spki(public))
        digest = key_digest(public).value
        yield Attestation(tpm, certificates, digest, setup.counter_index, setup.launch)


def spend_number(attestation: Attestation, nonce: bytes | None, planned: Planned) -> SpentNumber:
    """Take the next run number for a fresh run id, over nonce and plan. Raises MachineError."""
    run_id = secrets.token_bytes(_RUN_ID_BYTES)
    run = Run(run_id, 0, attestation.launch, planned.plan, planned.token, planned.seed)
    counter = attestation.tpm.count_run(attestation.counter_index, start_binding(run, nonce))
    return SpentNumber(run._replace(number=_number(counter.attest)), counter)


def check_machine(attestation: Attestation, machine: PlannedMachine, runs: int) -> None:
    """Check that the next number of this machine is one that the plan gives to its `runs`.

    Raises UsageError, MachineError.
    """
    key = Digest("sha-256", attestation.key)
    if key != machine.key:
        message = f"the plan is for the machine with the key {machine.key}; this one has {key}"
        raise UsageError("plan.machine", message)
    certified = attestation.tpm.certify_counter(attestation.counter_index, _LOOKING)
    following = _number(certified.attest) + 1
    if not machine.first_run <= following < machine.first_run + runs:
        last = machine.first_run + runs - 1
        message = f"the plan is for runs {machine.first_run} to {last}; the next is {following}"
        raise UsageError("plan.machine", f"{message}: make a new plan")


def open_log(
    attestation: Attestation, spent: SpentNumber, nonce: bytes | None
) -> tuple[RunLog, SignedAttest]:
    """Reset the log, write its first records and return it with their quote.

    Raises MachineError.
    """
    log = RunLog(attestation.tpm)
    log.append(counter_record(spent.counter.attest), start_record(spent.run, nonce))
    return log, attestation.tpm.quote(attestation.pcrs, start_quote_binding(log.head))


def quote_log(attestation: Attestation, log: RunLog, qualifying_data: bytes) -> SignedAttest:
    """Return the end quote. Raises MachineError where somebody else extended the log's PCR."""
    if attestation.tpm.read_pcr(tpm_format.RUN_PCR) != log.head:
        message = "another user of this TPM changed the run's PCR; run again, one run at a time"
        raise MachineError("log.pcr", message)
    return attestation.tpm.quote(attestation.pcrs, qualifying_data)


def tpm_message(
    attestation: Attestation, spent: SpentNumber, start: SignedAttest, end: SignedAttest
) -> ConceptualMessage:
    """Return the run's TPM evidence as a card carries it."""
    evidence = tpm_format.TpmEvidence(
        ak=attestation.tpm.ak_public,
        certificates=attestation.certificates,
        start=tpm_format.SignedAttest(*start),
        end=tpm_format.SignedAttest(*end),
        counter=tpm_format.SignedAttest(spent.counter.attest, spent.counter.signature),
        nv_public=spent.counter.nv_public,
    )
    return ConceptualMessage(tpm_format.TPM_MEDIA_TYPE, tpm_format.encode_tpm_evidence(evidence))


def _number(attest: bytes) -> int:
    attested = parse_attest(attest).attested
    if not isinstance(attested, NvCertification):
        raise MachineError("tpm.counter", "the TPM certified something else than the run counter")
    return int.from_bytes(attested.contents, "big")


def _matching(certificates: tuple[bytes, ...], key: bytes) -> tuple[bytes, ...]:
    """Return the certificates with the one for `key` first. Raises MachineError without one."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from laminator.appraise.trust import parse_certificate

    for certificate in certificates:
        try:
            subject = parse_certificate(certificate).public_key()
        except MalformedError as error:
            raise MalformedError("ak.certificate", "a certificate is not readable") from error
        if subject.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == key:
            return (certificate, *(other for other in certificates if other != certificate))
    message = "there is no certificate for this TPM's attestation key; enrol it first"
    raise MachineError("ak.certificate", message)
