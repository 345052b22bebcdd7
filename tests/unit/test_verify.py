"""Verifying whole cards: what is accepted, and which check alone refuses what is not."""

import datetime as dt

import forge
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from verifying import POLICY, claims, judge, obstacles, verdict_of, world

from enclave_sim.adversary import forged_pki as pki
from laminator.appraise.policy import BUILT_IN, References
from laminator.appraise.verify import verify
from laminator.card import ConceptualMessage, encode_card, parse_card
from laminator.claims import Launch
from laminator.digest import sha256
from laminator.errors import UsageError
from laminator.evidence.tpm_structures import name


def test_valid_card_is_accepted() -> None:
    result = judge(world())
    assert result.accepted, result.failures()
    assert result.card == f"sha-256:{parse_card(forge.card_bytes(world())).id.hex()}"
    assert result.trust[:3] == ("simulated", "launch", "self-certified")
    assert result.kind == "evaluation"
    others = {check.id for check in result.checks if check.verdict == "not-checked"}
    assert others == {"plan.digest"}  # the plan that the claims name is not at hand


def test_statements_say_whose_word_they_are() -> None:
    licence, accuracy = judge(world()).statements
    assert (licence.source, licence.chosen_by) == ("declared", None)
    assert (accuracy.source, accuracy.chosen_by) == ("measured", "provider")
    assert "not proven" in accuracy.rests_on


def test_every_required_check_is_present_and_passes() -> None:
    result = judge(world())
    passed = {check.id for check in result.checks if check.verdict == "pass"}
    assert set(result.required) <= passed
    assert {"card.parse", "evidence.set", "tpm.binding", "ak.revocation"} <= set(result.required)


def test_verify_is_stateless() -> None:
    card = forge.card_bytes(world())
    assert judge(card) == judge(card)


@pytest.mark.parametrize("card", [b"", b"\xa0", b"\xff" * 40, b"{}", bytes(1000)])
def test_bytes_that_are_no_card_fail_the_parse(card: bytes) -> None:
    result = judge(card)
    assert obstacles(result) == {"card.parse"}
    assert (result.card, result.kind, result.statements) == (None, None, ())


def test_naive_time_is_misuse() -> None:
    for card in (world(), b"no card"):
        with pytest.raises(UsageError, match="time zone") as caught:
            judge(card, now=forge.NOW.replace(tzinfo=None))
        assert caught.value.code == "verify.now"


def test_misspelt_argument_is_misuse() -> None:
    with pytest.raises(UsageError, match="artefacts"):
        judge(world(), artefacts={})


def test_missing_argument_is_misuse() -> None:
    with pytest.raises(UsageError, match="missing: now, trust"):
        verify(b"")  # type: ignore[call-arg]


def test_time_in_no_year_is_misuse() -> None:
    zone = dt.timezone(dt.timedelta(hours=23))
    with pytest.raises(UsageError, match="no year"):
        judge(world(), now=dt.datetime(1, 1, 1, tzinfo=zone))


def test_built_in_policy_refuses_a_simulated_root() -> None:
    refused = obstacles(judge(world(), BUILT_IN))
    assert {"policy.root", "policy.coverage", "policy.data-chosen-by"} <= refused


def test_nothing_of_a_rejected_card_comes_out() -> None:
    assert judge(world(), BUILT_IN).statements == ()


@pytest.mark.parametrize("position", range(0, 4000, 37))
def test_changed_byte_is_rejected(position: int) -> None:
    card = bytearray(forge.card_bytes(world()))
    card[position % len(card)] ^= 1
    assert not judge(bytes(card)).accepted


@given(st.binary(max_size=300))
def test_no_bytes_raise(card: bytes) -> None:
    assert not judge(card).accepted


# Trust.


def test_unknown_authority_gives_no_root() -> None:
    stranger = forge.machine(label="stranger").trust
    result = judge(world(), trust=stranger)
    assert "ak.chain" in obstacles(result)
    assert result.trust == ("none", "none", "none", None)


def test_missing_revocation_list_is_not_a_pass() -> None:
    trust = forge.machine().trust._replace(crls=())
    result = judge(world(), trust=trust)
    assert verdict_of(result, "ak.revocation") == "not-checked"
    assert obstacles(result) == {"ak.revocation", "policy.require.ak.revocation"}


def test_policy_can_do_without_revocation() -> None:
    trust = forge.machine().trust._replace(crls=())
    assert judge(world(), POLICY._replace(require=()), trust=trust).accepted


def test_revoked_key_fails_under_every_policy() -> None:
    machine = forge.machine()
    serial = x509.load_der_x509_certificate(machine.certificates[0]).serial_number
    revoked = pki.CrlSpec(revoked=(pki.Revoked(serial),))
    crls = (pki.crl(machine.root), pki.crl(machine.authority, revoked))
    result = judge(world(), POLICY._replace(require=()), trust=machine.trust._replace(crls=crls))
    assert verdict_of(result, "ak.revocation") == "fail"
    assert result.trust.root == "none"


def test_launch_that_is_no_reference_value_gives_no_coverage() -> None:
    other = References(launch=frozenset({sha256(b"another attester")}))
    result = judge(world(), POLICY._replace(references=other))
    assert result.trust.coverage == "none"
    assert obstacles(result) == {
        "policy.coverage",
        "policy.reference.launch",
    }


def test_simulated_launch_proves_nothing_on_a_real_tpm() -> None:
    machine = forge.machine()
    spec = pki.ak_spec(machine.key.public_key(), name(machine.counter), anchor="tpm")
    leaf = pki.sign(spec, machine.authority, machine.authority.key)
    trust = pki.store(machine.root, *machine.trust.crls, kind="tpm")
    drafted = world()
    certificates = (pki.der(leaf), machine.authority.der)
    card = forge.card_bytes(drafted._replace(machine=machine._replace(certificates=certificates)))
    result = judge(card, POLICY._replace(roots=("tpm",)), trust=trust)
    assert result.trust[:2] == ("tpm", "none")
    assert obstacles(result) == {"policy.coverage", "policy.reference.launch"}


def test_no_launch_gives_no_coverage() -> None:
    run = claims().run._replace(launch=Launch("none"))
    result = judge(world(run=run), POLICY._replace(coverage="none"))
    assert result.trust.coverage == "none"
    assert obstacles(result) == {"policy.reference.launch"}


def test_independence_is_the_policys_word() -> None:
    (anchor,) = forge.machine().trust.anchors
    named = POLICY._replace(independent_authorities=frozenset({anchor.fingerprint}))
    assert judge(world(), named).trust.authority == "independent"
    assert judge(world(), named._replace(authority="independent")).accepted
    unnamed = judge(world(), POLICY._replace(authority="independent"))
    assert obstacles(unnamed) == {"policy.independence"}


# Endorsements.


def test_endorsements_are_never_positive() -> None:
    message = ConceptualMessage("application/x-endorsement", b"all is well")
    made = forge.card(world())
    result = judge(encode_card(made._replace(endorsements=(message,))))
    assert result.accepted
    assert verdict_of(result, "card.endorsements") == "not-checked"
    assert "endorsements.not-checked" in {caveat.code for caveat in result.caveats}
    assert result.card == judge(world()).card


def test_expired_certificate() -> None:
    later = forge.NOW + dt.timedelta(days=800)
    assert "ak.validity" in obstacles(judge(world(), now=later))


def test_only_what_may_be_missing_is_not_required() -> None:
    result = judge(world())
    own = {check.id for check in result.checks if not check.id.startswith("policy.")}
    optional = {"claims.confinement", "claims.nonce", "plan.digest", "tpm.launch"}
    assert own - set(result.required) == optional
