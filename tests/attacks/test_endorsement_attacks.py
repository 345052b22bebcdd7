"""Endorsements of measurers that are forged, foreign, old, withdrawn or about something else.

None of them makes a card worse than without one: it just does not meet `measurer-endorsed`.
"""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from verifying import LAUNCH_DIGEST, POLICY, claims, judge, obstacles, verdict_of, world

from enclave_sim.adversary.forged_world import NOW
from laminator.appraise.explain import explain
from laminator.appraise.policy import Policy, PropertyRule, References, parse_policy
from laminator.appraise.policy_endorsers import Endorser
from laminator.appraise.result import VerificationResult
from laminator.card import ConceptualMessage
from laminator.claims import Property
from laminator.cose import spki_of
from laminator.cose_signing import PrivateKey, sign1
from laminator.digest import sha256
from laminator.endorsement import (
    ENDORSEMENT_TYPE,
    REFERENCE_TYPE,
    REVOCATIONS_TYPE,
    Endorsement,
    Revocations,
    encode_endorsement,
    encode_revocations,
)
from laminator.endorsements import ENDORSEMENT_MEDIA_TYPE
from laminator.errors import UsageError

AT = int(NOW.timestamp())
AUDITOR = ec.derive_private_key(1234, ec.SECP256R1())
STRANGER = ec.derive_private_key(4321, ec.SECP256R1())
KEY = sha256(spki_of(AUDITOR.public_key()))
RULE = "policy.property.accuracy"
REPORTED = Property("accuracy", 0.9, "reported", "train.py")
ENTRY = claims().workload.entry.digest
ENDORSED = Endorsement(b"\x05" * 16, ("accuracy",), "entry", ENTRY, AT - 10, AT + 10)
TOML = f"""
version = 1
[[endorser]]
name = "auditor"
key = "{KEY}"
[[property]]
name = "accuracy"
source = "reported"
measurer-endorsed = true
"""


def policy(source: str = "reported", **changes: Any) -> Policy:
    rule = PropertyRule(RULE, "accuracy", (source,), measurer_endorsed=True)
    endorsers = (Endorser("auditor", KEY),)
    return POLICY._replace(properties=(rule,), endorsers=endorsers)._replace(**changes)


def signed(key: PrivateKey = AUDITOR, **changes: Any) -> bytes:
    return sign1(key, ENDORSEMENT_TYPE, encode_endorsement(ENDORSED._replace(**changes)))


def listed(key: PrivateKey = AUDITOR, *, names: bool = True, **changes: Any) -> bytes:
    reasons = {ENDORSED.id: "found wrong"} if names else {}
    content = Revocations(AT - 10, AT + 10, reasons)._replace(**changes)
    return sign1(key, REVOCATIONS_TYPE, encode_revocations(content))


def judged(
    *given: bytes, asked: Policy | None = None, item: Property = REPORTED
) -> VerificationResult:
    return judge(world(properties=(item,)), asked or policy(), endorsements=given)


def lacking(result: VerificationResult) -> set[str]:
    """Return the ids of checks of endorsements that did not pass; the rule alone refuses."""
    assert obstacles(result) == {RULE}
    assert not any(c.verdict == "fail" for c in result.checks if c.id.startswith("endorsement."))
    found = {c.id for c in result.checks if c.id.startswith("endorsement.") and c.verdict != "pass"}
    return found - {"endorsement.revocation"}


def test_a_reported_value_by_an_endorsed_script() -> None:
    result = judged(signed(), listed(names=False))
    assert result.accepted
    for name in ("parse", "endorser", "signature", "subject", "validity", "revocation"):
        assert verdict_of(result, f"endorsement.{name}") == "pass"
    assert judged(signed(measurer="train.py")).accepted


def test_a_measured_value_by_an_endorsed_attester() -> None:
    item = REPORTED._replace(source="measured")
    asked = policy("measured", data_chosen_by="provider", coverage_named=True)
    launch = signed(kind="launch", digest=LAUNCH_DIGEST)
    assert judged(launch, asked=asked, item=item).accepted
    assert lacking(judged(signed(), asked=asked, item=item)) == set()


def test_an_endorsement_in_the_card_counts_like_one_given() -> None:
    made = world(properties=(REPORTED,))
    message = ConceptualMessage(ENDORSEMENT_MEDIA_TYPE, signed())
    assert judge(made._replace(endorsements=(message,)), policy()).accepted
    junk = message._replace(value=b"junk")
    both = made._replace(endorsements=(junk, message))
    required = policy(require=("endorsement.parse",))
    assert judge(both, required).accepted
    assert judge(made._replace(endorsements=(junk,)), POLICY).accepted


def test_no_endorsement() -> None:
    assert lacking(judged()) == set()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xd2\x84",
        signed()[1:],
        signed() + b"\x00",
        sign1(AUDITOR, REFERENCE_TYPE, encode_endorsement(ENDORSED)),
        sign1(AUDITOR, REVOCATIONS_TYPE, encode_endorsement(ENDORSED)),
    ],
)
def test_no_endorsement_at_all(message: bytes) -> None:
    assert lacking(judged(message)) == {"endorsement.parse"}


def test_an_endorsement_by_a_stranger() -> None:
    assert lacking(judged(signed(STRANGER))) == {"endorsement.endorser"}


def test_a_forged_signature() -> None:
    changed = bytearray(signed())
    changed[-1] ^= 1
    assert lacking(judged(bytes(changed))) == {"endorsement.signature"}


def test_an_endorsement_of_another_script() -> None:
    assert lacking(judged(signed(digest=sha256(b"other")))) == {"endorsement.subject"}
    assert lacking(judged(signed(kind="launch"))) == {"endorsement.subject"}


@pytest.mark.parametrize("changes", [{"not_before": AT + 1}, {"not_after": AT - 1}])
def test_an_endorsement_out_of_its_time(changes: Any) -> None:
    assert lacking(judged(signed(**changes))) == {"endorsement.validity"}


@pytest.mark.parametrize("next_update", [AT + 10, AT - 1])
def test_a_withdrawn_endorsement(next_update: int) -> None:
    """Also by a list that is not current any more, and beside one that does not name it."""
    given = (signed(), listed(next_update=next_update), listed(names=False))
    result = judged(*given)
    assert lacking(result) == set()
    assert verdict_of(result, "endorsement.revocation") == "not-checked"


def test_a_list_of_somebody_else_withdraws_nothing() -> None:
    assert judged(signed(), listed(STRANGER)).accepted


@pytest.mark.parametrize(
    "lists",
    [
        (),
        (listed(names=False, next_update=AT - 1),),
        (listed(names=False, issued=AT + 1),),
        (listed(STRANGER, names=False),),
    ],
)
def test_a_current_list_is_missing_where_the_policy_requires_one(lists: tuple[bytes, ...]) -> None:
    required = policy(require=("endorsement.revocation",))
    assert judged(signed(), *lists).accepted
    found = obstacles(judged(signed(), *lists, asked=required))
    assert found == {RULE, "endorsement.revocation", "policy.require.endorsement.revocation"}
    assert judged(signed(), listed(names=False), asked=required).accepted


def test_a_measurer_of_another_property_or_by_another_name() -> None:
    assert lacking(judged(signed(measures=("f1",)))) == set()
    assert lacking(judged(signed(measurer="eval.py"))) == set()


def test_a_declared_value_has_no_measurer_that_anybody_could_endorse() -> None:
    item = REPORTED._replace(source="declared")
    assert lacking(judged(signed(), asked=policy("declared"), item=item)) == set()


def test_which_script_ran_is_the_word_of_an_unknown_attester() -> None:
    """Whoever writes the claims of an unknown attester names any script in them."""
    unproven = policy(coverage="none", coverage_named=False, references=References())
    assert lacking(judged(signed(), asked=unproven)) == set()
    assert judged(signed(), asked=unproven._replace(coverage_named=True)).accepted


def test_a_policy_names_its_endorsers() -> None:
    parsed = parse_policy(TOML.encode(), name="p")
    assert parsed.endorsers == (Endorser("auditor", KEY),)
    assert parsed.properties[0].measurer_endorsed
    said = " ".join(explain(parsed))
    assert f"auditor may endorse measurers, with the key {KEY}." in said
    assert "vouch for its measurer" in said


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[[endorser]]", "[[endorser]]\nextra = 1"),
        (f'key = "{KEY}"', f'key = "sha-384:{"0" * 96}"'),
        (f'key = "{KEY}"', 'key = "me"'),
        (f'[[endorser]]\nname = "auditor"\nkey = "{KEY}"\n', ""),
        ('source = "reported"', 'source = "declared"'),
        ('source = "reported"', 'source = ["reported", "declared"]'),
        ("[[property]]", f'[[endorser]]\nname = "b"\nkey = "{KEY}"\n[[property]]'),
        ("[[property]]", f'[[endorser]]\nname = "auditor"\nkey = "{ENTRY}"\n[[property]]'),
    ],
)
def test_a_policy_that_names_endorsers_badly(before: str, after: str) -> None:
    assert before in TOML
    with pytest.raises(UsageError) as caught:
        parse_policy(TOML.replace(before, after).encode(), name="p")
    assert caught.value.code == "policy.content"
