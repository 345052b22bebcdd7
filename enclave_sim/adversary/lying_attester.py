"""Runs by hand on a TPM that is there: each step apart, so that an attack can change it.

The authority here certifies whatever key and counter it is shown.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from enclave_sim.adversary import forged_pki as pki
from enclave_sim.adversary import forged_world
from laminator.appraise.policy import Policy, References
from laminator.appraise.result import VerificationResult
from laminator.appraise.trust import TrustStore
from laminator.appraise.verify import verify
from laminator.attest.tpm import AttestationTpm, CounterCertification
from laminator.card import Card, ConceptualMessage, binding, encode_card
from laminator.claims import Claims, EvidenceRef, Launch, LogSummary
from laminator.claims_codec import encode_claims
from laminator.eventlog import (
    START_QUOTE_RECORDS,
    Record,
    expected_records,
    record_digest,
    replay,
    start_binding,
    start_quote_binding,
)
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures
from laminator.evidence.tpm_key import key_digest, public_key

POLICY = forged_world.POLICY._replace(coverage="none", references=References())

# The TPM's clock counts milliseconds, and these runs do nothing between their quotes.
_TICK = 0.003

Count = Callable[[AttestationTpm, bytes], CounterCertification]


class Run(NamedTuple):
    """A finished run: what its card is made of, and who is trusted for its key."""

    claims: Claims
    log: tuple[Record, ...]
    evidence: tpm.TpmEvidence
    trust: TrustStore

    def card(self) -> bytes:
        """Return the encoded card."""
        message = ConceptualMessage(tpm.TPM_MEDIA_TYPE, tpm.encode_tpm_evidence(self.evidence))
        return encode_card(Card(encode_claims(self.claims), self.claims, self.log, (message,)))

    def judge(self, policy: Policy = POLICY) -> VerificationResult:
        """Verify the card with trust in its own authority."""
        return verify(self.card(), policy, trust=self.trust, now=pki.NOW)

    def obstacles(self) -> set[str]:
        """Ids of the checks of evidence and log that stop this card."""
        stopping = forged_world.obstacles(self.judge())
        return {id_ for id_ in stopping if not id_.startswith("policy.")}


def count(machine: AttestationTpm, qualifying_data: bytes) -> CounterCertification:
    """Take the next number, as an honest attester does."""
    if not machine.has_nv_index(structures.RUN_COUNTER_INDEX):
        machine.define_counter(structures.RUN_COUNTER_INDEX)
    return machine.count_run(structures.RUN_COUNTER_INDEX, qualifying_data)


def run(
    machine: AttestationTpm,
    label: str = "run",
    counting: Count = count,
    pause: Callable[[], AttestationTpm] | None = None,
    naming: tuple[EvidenceRef, ...] | None = None,
) -> Run:
    """Do a run named `label`; `counting` takes the number, `pause` comes before the end quote.

    `pause` returns the machine to go on with. The claims name the AK, or the keys `naming`.
    """
    draft = forged_world.claims()
    identity = label.encode().ljust(16, b"\x00")
    draft = draft._replace(run=draft.run._replace(id=identity, launch=Launch("none")))
    counted = counting(machine, start_binding(draft.run, draft.nonce))
    draft = draft._replace(run=draft.run._replace(number=number(counted)))
    log = expected_records(draft, counted.attest)
    ak_public = machine.ak_public
    key = structures.parse_public(ak_public)
    claims = draft._replace(
        log=LogSummary(replay(log), len(log)),
        evidence=naming or (EvidenceRef("tpm", key_digest(key).value),),
    )
    first = log[:START_QUOTE_RECORDS]
    extend(machine, first)
    start = machine.quote((tpm.RUN_PCR,), start_quote_binding(replay(first)))
    if pause is None:
        extend(machine, log[START_QUOTE_RECORDS:], reset=False)
    else:
        machine = pause()
        extend(machine, log)
    time.sleep(_TICK)
    end = machine.quote((tpm.RUN_PCR,), binding(encode_claims(claims)))
    certificates, trust = certify(key, structures.parse_nv_public(counted.nv_public))
    counter = tpm.SignedAttest(counted.attest, counted.signature)
    evidence = tpm.TpmEvidence(ak_public, certificates, start, end, counter, counted.nv_public)
    return Run(claims, log, evidence, trust)


def number(counted: CounterCertification) -> int:
    """Return the number that a certification shows."""
    attested = structures.parse_attest(counted.attest).attested
    if not isinstance(attested, structures.NvCertification):
        raise TypeError("no certification of NV contents")
    return int.from_bytes(attested.contents, "big")


def extend(machine: AttestationTpm, records: tuple[Record, ...], *, reset: bool = True) -> None:
    """Write `records` to PCR 23, after a reset by default."""
    if reset:
        machine.reset_log()
    for record in records:
        machine.extend_log(record_digest(record))


def certify(
    key: structures.Public, counter: structures.NvPublic
) -> tuple[tuple[bytes, ...], TrustStore]:
    """Return the certificate of an authority that looks at nothing, and trust in it."""
    root = pki.root("careless root")
    issuer = pki.authority(root, "careless authority", path_length=0)
    leaf = pki.sign(pki.ak_spec(public_key(key), structures.name(counter)), issuer, issuer.key)
    trust = pki.store(root, pki.crl(root), pki.crl(issuer))
    return (pki.der(leaf), issuer.der), trust
