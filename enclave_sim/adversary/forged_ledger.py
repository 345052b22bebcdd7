"""Failure records and whole ledgers in memory, and the verifier who judges them.

Typical use::

    data = ledger(1, 2, card_of(1), failure_bytes(failed_run(2)))
    judge(data).accepted

Every record is as its machine would sign it; what a field says is the test's to choose.
"""

from typing import NamedTuple

from enclave_sim.adversary import forged_world
from enclave_sim.adversary.forged_tpm import Machine, certification, machine, quote, signed
from enclave_sim.adversary.forged_world import NOW, POLICY
from laminator.appraise.ledger import verify_ledger
from laminator.appraise.ledger_result import LedgerResult
from laminator.appraise.policy import Policy
from laminator.card import ConceptualMessage
from laminator.claims import EvidenceRef, Run
from laminator.eventlog import START_QUOTE_RECORDS, replay, start_quote_binding
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures
from laminator.evidence.tpm_key import key_digest
from laminator.failure import (
    FailureClaims,
    FailureRecord,
    encode_failure,
    encode_failure_claims,
    expected_records,
    failure_binding,
)
from laminator.ledger import encode_ledger


class FailedRun(NamedTuple):
    """Everything that a failure record is made of, unsigned; `failure` signs it."""

    machine: Machine
    claims: FailureClaims
    counter: structures.Attest
    start: structures.Attest
    end: structures.Attest


def run_of(number: int, run_id: bytes | None = None) -> Run:
    """Return the run with this number; its id follows from the number unless it is given."""
    run = forged_world.claims().run
    return run._replace(number=number, id=run_id or b"run %012d" % number)


def failed_run(
    number: int,
    outcome: str = "interrupted",
    *,
    machine_: Machine | None = None,
    run: Run | None = None,
    iat: int = forged_world.IAT,
) -> FailedRun:
    """Return an honest failure of the run `number` of the default machine."""
    machine_ = machine_ or machine()
    draft = forged_world.claims(run=run or run_of(number))
    reference = EvidenceRef("tpm", key_digest(machine_.ak).value)
    claims = FailureClaims(iat, draft.run, outcome, reference, draft.nonce)
    counter = certification(machine_, draft)
    log = expected_records(claims, structures.marshal_attest(counter))
    first = replay(log[:START_QUOTE_RECORDS])
    start = quote(machine_, draft, first, start_quote_binding(first), 2000)
    end = quote(machine_, draft, replay(log), failure_binding(encode_failure_claims(claims)), 9000)
    return FailedRun(machine_, claims, counter, start, end)


def failure_evidence(failed: FailedRun) -> tpm.TpmEvidence:
    """Return the record's evidence as carried, everything signed."""
    return tpm.TpmEvidence(
        structures.marshal_public(failed.machine.ak),
        failed.machine.certificates,
        signed(failed.machine, failed.start),
        signed(failed.machine, failed.end),
        signed(failed.machine, failed.counter),
        structures.marshal_nv_public(failed.machine.counter),
    )


def failure(failed: FailedRun, carried: tpm.TpmEvidence | None = None) -> FailureRecord:
    """Return the record, with `carried` in place of its own evidence if given."""
    value = tpm.encode_tpm_evidence(carried or failure_evidence(failed))
    message = ConceptualMessage(tpm.TPM_MEDIA_TYPE, value)
    return FailureRecord(encode_failure_claims(failed.claims), failed.claims, message)


def failure_bytes(failed: FailedRun, carried: tpm.TpmEvidence | None = None) -> bytes:
    """Return the encoded record."""
    return encode_failure(failure(failed, carried))


def card_of(number: int, machine_: Machine | None = None, **changes: object) -> bytes:
    """Return the card of the run `number`, with other claims changed."""
    claims = forged_world.claims(**{"run": run_of(number), **changes})
    return forged_world.card_bytes(forged_world.world(machine_, claims))


def ledger(first: int, last: int, *entries: bytes) -> bytes:
    """Return the ledger of these entries, whatever they are."""
    return encode_ledger(first, last, entries)


def judge(data: bytes, policy: Policy = POLICY, machine_: Machine | None = None) -> LedgerResult:
    """Verify a ledger at NOW with the machine's trust."""
    return verify_ledger(data, policy, trust=(machine_ or machine()).trust, now=NOW)


def stopped_by(result: LedgerResult) -> set[str]:
    """Return the ids of the checks that forbid acceptance."""
    return {check.id for check in result.failures()}


def entry_failures(result: LedgerResult) -> dict[int | None, set[str]]:
    """Return the failed checks of each rejected entry, by its number, without the policy's."""
    return {
        each.number: {id_ for id_ in each.failures if not id_.startswith("policy.")}
        for each in result.numbers
        if each.entry != "gap" and each.verdict == "rejected"
    }
