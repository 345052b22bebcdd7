"""Evidence listed and carried: added, dropped, doubled, swapped, of a kind that nobody knows."""

import pytest

from enclave_sim.adversary import deviations
from enclave_sim.adversary.forged_tpm import Machine, machine
from enclave_sim.adversary.forged_world import (
    World,
    attested,
    card,
    claims,
    evidence,
    failures,
    judge,
    obstacles,
    verdict_of,
    world,
)
from laminator.appraise.trust import TrustStore
from laminator.card import Card, ConceptualMessage, encode_card
from laminator.claims import EvidenceRef
from laminator.evidence.tpm import TPM_MEDIA_TYPE, encode_tpm_evidence
from laminator.evidence.tpm_key import key_digest

OURS, THEIRS = machine(), machine(label="another machine")
TRUST = TrustStore(
    (*OURS.trust.anchors, *THEIRS.trust.anchors), (*OURS.trust.crls, *THEIRS.trust.crls)
)


def honest() -> World:
    made = world(claims=claims())
    assert judge(made).accepted
    return made


def ref(machine_: Machine) -> EvidenceRef:
    return EvidenceRef("tpm", key_digest(machine_.ak).value)


def carrying(made: World, *messages: ConceptualMessage) -> bytes:
    return encode_card(card(made)._replace(evidence=messages))


def own(made: World) -> ConceptualMessage:
    return card(made).evidence[0]


def listing(*refs: EvidenceRef) -> World:
    made = honest()
    assert refs != made.claims.evidence
    return deviations.other_claims(made, evidence=refs)


# Not what the claims list.


def test_evidence_added_to_a_finished_card() -> None:
    made = honest()
    added = carrying(made, own(made), own(made))
    assert "evidence.set" in failures(judge(added))
    assert failures(judge(added)) <= {"evidence.set", "log.claims"}


def test_listed_evidence_that_is_not_there() -> None:
    assert failures(judge(listing(ref(OURS), ref(OURS)))) == {"evidence.set"}
    assert failures(judge(listing(ref(OURS), EvidenceRef("tdx", bytes(32))))) == {"evidence.set"}


def test_evidence_that_is_listed_as_another_kind() -> None:
    assert failures(judge(listing(ref(OURS)._replace(kind="tdx")))) == {"evidence.set"}


@pytest.mark.parametrize("first", [True, False])
def test_evidence_of_an_unknown_kind(first: bool) -> None:
    unknown = ConceptualMessage("application/x-unknown", b"x")
    refs = (ref(OURS), EvidenceRef("unknown", b"k" * 32))
    made = listing(*(refs[::-1] if first else refs))
    messages = (unknown, own(made)) if first else (own(made), unknown)
    result = judge(carrying(made, *messages))
    assert failures(result) == {"evidence.set"}
    assert result.trust.root == "none"


@pytest.mark.parametrize(
    "media_type",
    [TPM_MEDIA_TYPE.upper(), f"{TPM_MEDIA_TYPE} ", f"{TPM_MEDIA_TYPE};v=2", "application/cbor"],
)
def test_a_media_type_that_is_almost_the_one(media_type: str) -> None:
    made = honest()
    lie = carrying(made, own(made)._replace(media_type=media_type))
    assert failures(judge(lie)) == {"evidence.set"}


def test_evidence_that_is_no_tpm_evidence() -> None:
    made = honest()
    result = judge(carrying(made, own(made)._replace(value=b"\xa0")))
    assert failures(result) == {"tpm.parse"}
    assert verdict_of(result, "log.claims") == "not-checked"


# Two pieces.


def two_machines() -> tuple[World, World]:
    """Return one run attested by two machines: the same claims, log and counter, in two worlds."""
    made = honest()
    both = made.claims._replace(evidence=(ref(OURS), ref(THEIRS)))
    ours = attested(OURS, both, made.log, made.counter)
    theirs = attested(THEIRS, both, made.log, made.counter)
    assert ours.claims == theirs.claims
    return ours, theirs


def test_two_pieces_of_one_machine_are_judged_both() -> None:
    made = listing(ref(OURS), ref(OURS))
    result = judge(carrying(made, own(made), own(made)))
    assert result.accepted, result.failures()
    assert "evidence.co-location" in {caveat.code for caveat in result.caveats}
    assert sum(check.id == "tpm.binding" for check in result.checks) == 2


def test_two_pieces_of_two_machines_in_the_order_of_the_claims() -> None:
    """The other machine cannot certify our counter, and nothing places both on one machine."""
    ours, theirs = two_machines()
    result = judge(carrying(ours, own(ours), own(theirs)), trust=TRUST)
    assert failures(result) == {"tpm.signer"}
    assert "evidence.co-location" in {caveat.code for caveat in result.caveats}


def test_two_pieces_of_two_machines_swapped() -> None:
    ours, theirs = two_machines()
    result = judge(carrying(ours, own(theirs), own(ours)), trust=TRUST)
    assert "tpm.key" in failures(result)
    assert sum(check.id == "tpm.key" and check.verdict == "fail" for check in result.checks) == 2


def test_one_piece_doubled_in_place_of_two() -> None:
    ours, _ = two_machines()
    result = judge(carrying(ours, own(ours), own(ours)), trust=TRUST)
    assert failures(result) == {"tpm.key"}


def test_a_second_piece_that_is_no_good_spoils_the_first() -> None:
    made = listing(ref(OURS), ref(OURS))
    carried = evidence(made)
    bad = carried._replace(end=carried.end._replace(signature=carried.start.signature))
    second = ConceptualMessage(TPM_MEDIA_TYPE, encode_tpm_evidence(bad))
    for messages in ((own(made), second), (second, own(made))):
        result = judge(carrying(made, *messages))
        assert failures(result) == {"tpm.signature"}
        assert result.trust.root == "none"


def test_a_voucher_that_is_only_stated() -> None:
    made = listing(ref(OURS)._replace(vouched_by=0))
    result = judge(made)
    assert verdict_of(result, "evidence.vouchers") == "not-checked"


# Endorsements, which are no evidence.


def test_evidence_moved_to_the_endorsements_counts_for_nothing() -> None:
    ours, theirs = two_machines()
    made: Card = card(ours)
    moved = encode_card(made._replace(endorsements=(own(theirs),)))
    assert "evidence.set" in obstacles(judge(moved, trust=TRUST))
