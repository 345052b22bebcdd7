"""TPM evidence as a card carries it, and its checks against a golden card's claims."""

from functools import cache

from harnesses.harness import Harness, golden_cards, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.card import Card, parse_card
from laminator.evidence.tpm import (
    ParsedTpm,
    SignedAttest,
    TpmEvidence,
    encode_tpm_evidence,
    expect,
    parse_tpm_evidence,
    verify_tpm_evidence,
)
from laminator.evidence.tpm_format import Attestation
from laminator.evidence.tpm_key import signature_holds
from laminator.evidence.tpm_structures import (
    marshal_attest,
    marshal_nv_public,
    marshal_public,
    marshal_signature,
    name,
)


def check(data: bytes) -> bool:
    """What parses encodes to the same bytes; only real evidence of a card is verified for it."""
    evidence = parsed(parse_tpm_evidence, data)
    if evidence is None:
        return False
    assert encode_tpm_evidence(_carried(evidence)) == data
    for card in _cards():
        expected = expect(card, card.claims.evidence[0], name(_real(card).nv_public))
        appraisal = verify_tpm_evidence(evidence, expected)
        assert (appraisal.verified is None) == (not _is_real(evidence, card))
    return True


def seeds() -> list[bytes]:
    """Return the evidence of the golden cards."""
    return [card.evidence[0].value for card in _cards()]


def _carried(evidence: ParsedTpm) -> TpmEvidence:
    return TpmEvidence(
        marshal_public(evidence.ak),
        evidence.certificates,
        _signed(evidence.start),
        _signed(evidence.end),
        _signed(evidence.counter),
        marshal_nv_public(evidence.nv_public),
    )


def _signed(attestation: Attestation) -> SignedAttest:
    assert marshal_attest(attestation.attest) == attestation.message
    return SignedAttest(attestation.message, marshal_signature(attestation.signature))


def _is_real(evidence: ParsedTpm, card: Card) -> bool:
    """Whether `evidence` states what the card's does; its certificates are judged elsewhere.

    A third party can turn an ECDSA signature (r, s) into (r, n - s), which holds as well.
    """
    real = _real(card)
    stated = [each.message for each in evidence.attestations]
    return (
        evidence.ak == real.ak
        and evidence.nv_public == real.nv_public
        and stated == [each.message for each in real.attestations]
        and all(_holds(evidence, each) for each in evidence.attestations)
    )


def _holds(evidence: ParsedTpm, attestation: Attestation) -> bool:
    return signature_holds(evidence.key, attestation.signature, attestation.message)


@cache
def _cards() -> tuple[Card, ...]:
    return tuple(map(parse_card, golden_cards()))


@cache
def _real_evidence(value: bytes) -> ParsedTpm:
    return parse_tpm_evidence(value)


def _real(card: Card) -> ParsedTpm:
    return _real_evidence(card.evidence[0].value)


HARNESS = Harness(check, seeds, mutate_as_cbor)
