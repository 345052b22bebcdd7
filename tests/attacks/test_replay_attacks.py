"""Attestations that a TPM made for something else: another machine, card, nonce or boot.

Both machines' authorities are trusted, and each attestation is honest where it came from.
"""

import pytest

from enclave_sim.adversary import deviations
from enclave_sim.adversary.deviations import Which
from enclave_sim.adversary.forged_tpm import machine, signed
from enclave_sim.adversary.forged_world import (
    World,
    attested,
    card,
    card_bytes,
    claims,
    evidence,
    failures,
    judge,
    verdict_of,
    world,
)
from laminator.appraise.trust import TrustStore
from laminator.claims import Claims, EvidenceRef
from laminator.eventlog import expected_records
from laminator.evidence.tpm_key import key_digest
from laminator.evidence.tpm_structures import ClockInfo, marshal_attest

OURS, THEIRS = machine(), machine(label="another machine")
TRUST = TrustStore(
    (*OURS.trust.anchors, *THEIRS.trust.anchors), (*OURS.trust.crls, *THEIRS.trust.crls)
)
WHICH: list[Which] = ["counter", "start", "end"]


def ids(made: World) -> set[str]:
    return failures(judge(made, trust=TRUST))


def one(**changes: object) -> World:
    made = world(OURS, claims(**changes))
    assert judge(made, trust=TRUST).accepted
    return made


def two(**changes: object) -> World:
    made = world(THEIRS, claims(**changes))
    assert judge(made, trust=TRUST).accepted
    return made


def with_part(made: World, which: Which, other: World) -> World:
    part = getattr(evidence(other), which)
    carried = evidence(made)
    assert getattr(carried, which) != part
    return made._replace(carried=carried._replace(**{which: part}))


# Another machine.


@pytest.mark.parametrize(
    ("which", "wanted"),
    [
        ("counter", {"log.claims"}),
        ("start", {"tpm.start-binding", "tpm.start-pcr-digest"}),
        ("end", {"tpm.binding", "tpm.pcr-digest"}),
    ],
)
def test_one_attestation_of_another_machine(which: Which, wanted: set[str]) -> None:
    found = ids(with_part(one(), which, two()))
    assert found == {"tpm.signature", "tpm.signer", *wanted}


@pytest.mark.parametrize("which", WHICH)
def test_one_attestation_of_another_machine_over_our_own_log(which: Which) -> None:
    made = one()
    theirs = signed(THEIRS, getattr(made, which))
    carried = evidence(made)._replace(**{which: theirs})  # type: ignore[arg-type]
    assert ids(made._replace(carried=carried)) == {"tpm.signature"}


def test_all_evidence_of_another_machine() -> None:
    quotes = {"tpm.start-binding", "tpm.start-pcr-digest", "tpm.binding", "tpm.pcr-digest"}
    lie = one()._replace(carried=evidence(two()))
    assert ids(lie) == {"tpm.key", "log.claims", *quotes}


def test_another_machine_that_attests_to_our_claims() -> None:
    """Their TPM quotes our card: its claims name the key that they are of."""
    key = EvidenceRef("tpm", key_digest(OURS.ak).value)
    made = two()
    named = made.claims._replace(evidence=(key,))
    assert named.evidence != made.claims.evidence
    assert ids(attested(THEIRS, named, made.log, made.counter)) == {"tpm.key"}


def test_the_certificate_of_another_machine() -> None:
    lie = deviations.other_certificates(one(), *THEIRS.certificates)
    assert ids(lie) == {"ak.certificate"}


# Another card of the same machine.


def other_run() -> World:
    run = claims().run
    return one(run=run._replace(id=b"another run's id", number=run.number + 1))


@pytest.mark.parametrize(
    ("which", "wanted"),
    [
        ("counter", {"run.counter.binding", "run.counter.value", "log.claims"}),
        ("start", {"tpm.start-binding", "tpm.start-pcr-digest"}),
        ("end", {"tpm.binding", "tpm.pcr-digest"}),
    ],
)
def test_one_attestation_of_another_card(which: Which, wanted: set[str]) -> None:
    assert ids(with_part(one(), which, other_run())) == wanted


def test_all_evidence_of_another_card() -> None:
    assert ids(one()._replace(carried=evidence(other_run()))) == {
        *("tpm.binding", "tpm.pcr-digest", "tpm.start-binding", "tpm.start-pcr-digest"),
        *("run.counter.binding", "run.counter.value", "log.claims"),
    }


def test_claims_made_up_after_the_run() -> None:
    made = one()
    better = made.claims.properties[1]._replace(value=0.9)
    lie = deviations.other_claims(made, properties=(made.claims.properties[0], better))
    assert lie.claims != made.claims
    assert ids(lie) == {"log.claims"}


def test_the_number_of_an_earlier_run() -> None:
    made = one()
    lower = made.claims.run._replace(number=made.claims.run.number - 1)
    assert ids(deviations.other_claims(made, run=lower)) == {"run.counter.value", "log.claims"}


def as_if_run(made: World, lied: Claims) -> World:
    """Run the log of `lied` with the counter's certification of `made`: no new number is taken."""
    log = expected_records(lied, marshal_attest(made.counter))
    return attested(OURS, lied, log, made.counter)


# Another nonce.


def test_a_card_for_another_nonce() -> None:
    made = one()
    assert made.claims.nonce == b"n" * 32
    asked = judge(made, trust=TRUST, nonce=b"m" * 32)
    assert failures(asked) == {"claims.nonce"}


def test_a_number_that_was_taken_for_another_nonce() -> None:
    made = one()
    lie = as_if_run(made, made.claims._replace(nonce=b"m" * 32))
    assert verdict_of(judge(lie, trust=TRUST, nonce=b"m" * 32), "claims.nonce") == "pass"
    assert ids(lie) == {"run.counter.binding"}


@pytest.mark.parametrize("change", ["id", "plan"])
def test_a_number_that_was_taken_for_another_run_or_plan(change: str) -> None:
    made = one()
    other = {"id": b"another run's id", "plan": None}[change]
    run = made.claims.run._replace(**{change: other})  # type: ignore[arg-type]
    assert run != made.claims.run
    assert ids(as_if_run(made, made.claims._replace(run=run))) == {"run.counter.binding"}


# Another boot, and clocks that go back.

BOOT = ClockInfo(2000, 3, 1, safe=True)


@pytest.mark.parametrize(
    ("which", "clock", "id_"),
    [
        ("counter", BOOT._replace(clock=1000, reset_count=2), "run.counter.clock"),
        ("counter", BOOT._replace(clock=1000, restart_count=0), "run.counter.clock"),
        ("counter", BOOT._replace(clock=1000, safe=False), "run.counter.clock"),
        ("counter", BOOT._replace(clock=2001), "run.counter.clock"),
        ("end", BOOT._replace(clock=9000, reset_count=4), "tpm.clock"),
        ("end", BOOT._replace(clock=9000, restart_count=2), "tpm.clock"),
        ("end", BOOT._replace(clock=1999), "tpm.clock"),
        ("end", BOOT, "tpm.clock"),
        ("end", BOOT._replace(clock=0, reset_count=4), "tpm.clock"),
    ],
)
def test_an_attestation_of_another_time(which: Which, clock: ClockInfo, id_: str) -> None:
    made = one()
    assert made.start.clock_info == BOOT
    assert getattr(made, which).clock_info != clock
    assert ids(deviations.other_attest(made, which, clock_info=clock)) == {id_}


def test_start_and_end_in_one_boot_and_the_number_in_another() -> None:
    made = one()
    lie = made._replace(
        start=made.start._replace(clock_info=BOOT._replace(reset_count=4)),
        end=made.end._replace(clock_info=BOOT._replace(clock=9000, reset_count=4)),
    )
    assert ids(lie) == {"run.counter.clock"}


def test_one_number_certified_in_two_boots_is_said_of_each_card_alone() -> None:
    """Two certifications of one number make two cards: one card cannot show the other."""
    first, number = one(), claims().run.number
    second = world(
        OURS,
        claims(run=claims().run._replace(id=b"another run's id")),
        lambda counter: counter._replace(clock_info=BOOT._replace(clock=1000, reset_count=4)),
    )
    second = second._replace(
        start=second.start._replace(clock_info=BOOT._replace(reset_count=4)),
        end=second.end._replace(clock_info=BOOT._replace(clock=9000, reset_count=4)),
    )
    assert card(first).id != card(second).id
    for made in (first, second):
        assert made.claims.run.number == number
        result = judge(card_bytes(made), trust=TRUST)
        assert result.accepted
        assert "coverage.launch" in {caveat.code for caveat in result.caveats}
