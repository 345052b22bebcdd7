"""TPM evidence as a card carries it, parsed, and what a card makes of it to be expected.

The message's value is deterministic CBOR::

    {"ak": TPMT_PUBLIC, "certificates": [AK certificate, candidate intermediates ...],
     "start": {"attest": TPMS_ATTEST, "signature": TPMT_SIGNATURE}, "end": {the same},
     "counter": {"attest": ..., "signature": ..., "nv-public": TPMS_NV_PUBLIC}}
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from laminator import cbor
from laminator.card import Card
from laminator.cbor import Value
from laminator.claims import EvidenceRef, Launch, Run
from laminator.eventlog import (
    START_QUOTE_RECORDS,
    Record,
    replay,
    start_binding,
    start_quote_binding,
)
from laminator.evidence.tpm_key import PublicKey, public_key
from laminator.evidence.tpm_structures import (
    MAX_STRUCTURE,
    Attest,
    NvPublic,
    Public,
    Signature,
    parse_attest,
    parse_nv_public,
    parse_public,
    parse_signature,
)
from laminator.fields import Fields, array, octets

TPM_MEDIA_TYPE = "application/vnd.laminator.tpm+cbor"
TPM_KIND = "tpm"
RUN_PCR = 23
LAUNCH_PCR = 17

MAX_TPM_EVIDENCE = 128 * 1024
MAX_CERTIFICATES = 8
MAX_CERTIFICATE = 8 * 1024

_DRTM = "drtm-"

_structure = octets(1, MAX_STRUCTURE)
_certificates = array(octets(1, MAX_CERTIFICATE), least=1, most=MAX_CERTIFICATES)


class SignedAttest(NamedTuple):
    """The bytes of a TPMS_ATTEST and of the TPMT_SIGNATURE over it."""

    attest: bytes
    signature: bytes


class TpmEvidence(NamedTuple):
    """TPM evidence as carried: structures in the TPM's own bytes, certificates in DER.

    `ak` is a TPMT_PUBLIC (without the size of a TPM2B), `nv_public` a TPMS_NV_PUBLIC. The first
    certificate is the AK's, the others are candidates for intermediates.
    """

    ak: bytes
    certificates: tuple[bytes, ...]
    start: SignedAttest
    end: SignedAttest
    counter: SignedAttest
    nv_public: bytes


class Attestation(NamedTuple):
    """A parsed, unverified attestation: `message` is what the signature covers."""

    message: bytes
    attest: Attest
    signature: Signature


class ParsedTpm(NamedTuple):
    """Parsed, unverified TPM evidence; `key` is the AK's."""

    ak: Public
    key: PublicKey
    certificates: tuple[bytes, ...]
    start: Attestation
    end: Attestation
    counter: Attestation
    nv_public: NvPublic

    @property
    def attestations(self) -> tuple[Attestation, Attestation, Attestation]:
        """All three attestations: counter, start, end, as they were made."""
        return self.counter, self.start, self.end


class Expected(NamedTuple):
    """What a card's claims and log require of its TPM evidence.

    Bindings are 32-byte qualifying data; `start_head` and `end_head` the values of PCR 23 at the
    two quotes; `endorsed_counter` the Name in the *verified* AK certificate, None without one.
    """

    reference: EvidenceRef
    counter_binding: bytes
    start_binding: bytes
    end_binding: bytes
    start_head: bytes
    end_head: bytes
    launch: Launch
    run_number: int
    endorsed_counter: bytes | None = None

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The PCRs that the quotes have to select."""
        return (LAUNCH_PCR, RUN_PCR) if self.is_drtm else (RUN_PCR,)

    @property
    def is_drtm(self) -> bool:
        """Whether the claims say that the attester was launched dynamically."""
        return self.launch.type.startswith(_DRTM)


class Attested(NamedTuple):
    """A run as evidence has to cover it: `binding` is what the end quote signs, 32 bytes.

    `log` are the run's records, the first two of them before the start quote.
    """

    run: Run
    nonce: bytes | None
    binding: bytes
    log: Sequence[Record]


def expect(
    card: Card,
    reference: EvidenceRef,
    endorsed_counter: bytes | None,
    end_head: bytes | None = None,
) -> Expected:
    """Return what `card` requires of the TPM evidence that `reference` announces.

    `end_head` is the replay of the card's log where the caller has it already.
    """
    attested = Attested(card.claims.run, card.claims.nonce, card.id, card.log)
    return expect_attested(attested, reference, end_head)._replace(
        endorsed_counter=endorsed_counter
    )


def expect_attested(
    attested: Attested, reference: EvidenceRef, end_head: bytes | None = None
) -> Expected:
    """Return what `attested` requires of its evidence, before a counter is endorsed."""
    start_head = replay(attested.log[:START_QUOTE_RECORDS])
    return Expected(
        reference=reference,
        counter_binding=start_binding(attested.run, attested.nonce),
        start_binding=start_quote_binding(start_head),
        end_binding=attested.binding,
        start_head=start_head,
        end_head=replay(attested.log) if end_head is None else end_head,
        launch=attested.run.launch,
        run_number=attested.run.number,
    )


def launch_pcr(digest: bytes) -> bytes:
    """Return PCR 17 after a dynamic launch that measured one `digest`, 32 bytes."""
    return hashlib.sha256(bytes(32) + digest).digest()


def encode_tpm_evidence(evidence: TpmEvidence) -> bytes:
    """Return the one encoding of `evidence`: the value of its conceptual message."""
    return cbor.encode(
        {
            "ak": evidence.ak,
            "certificates": evidence.certificates,
            "start": evidence.start._asdict(),
            "end": evidence.end._asdict(),
            "counter": {**evidence.counter._asdict(), "nv-public": evidence.nv_public},
        }
    )


def parse_tpm_evidence(data: bytes) -> ParsedTpm:
    """Parse a conceptual message's value. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_TPM_EVIDENCE), "tpm")
    ak = parse_public(fields.take("ak", _structure))
    certificates = fields.take("certificates", _certificates)
    start, end = fields.take("start", _attestation), fields.take("end", _attestation)
    counter, nv_public = fields.take("counter", _certification)
    fields.close()
    return ParsedTpm(ak, public_key(ak), certificates, start, end, counter, nv_public)


def _attestation(value: Value, path: str) -> Attestation:
    fields = Fields(value, path)
    attestation = _take_attestation(fields)
    fields.close()
    return attestation


def _certification(value: Value, path: str) -> tuple[Attestation, NvPublic]:
    fields = Fields(value, path)
    attestation = _take_attestation(fields)
    nv_public = parse_nv_public(fields.take("nv-public", _structure))
    fields.close()
    return attestation, nv_public


def _take_attestation(fields: Fields) -> Attestation:
    message = fields.take("attest", _structure)
    signature = parse_signature(fields.take("signature", _structure))
    return Attestation(message, parse_attest(message), signature)
