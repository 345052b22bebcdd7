"""Verifying whole cards: what is accepted, and which check alone refuses what is not."""

import datetime as dt
from collections.abc import Callable
from types import MappingProxyType

import forge
import pki
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from verifying import IAT, POLICY, claims, judge, obstacles, verdict_of, world

import laminator
from laminator.appraise.lineage import MAX_LINEAGE_DEPTH
from laminator.appraise.policy import BUILT_IN, Policy, References
from laminator.appraise.result import VerificationResult
from laminator.card import ConceptualMessage, binding, encode_card, parse_card
from laminator.claims import Artifact, Claims, EvidenceRef, Isolation, Launch, LogSummary, Property
from laminator.claims_codec import encode_claims
from laminator.digest import Digest, sha256
from laminator.errors import UsageError
from laminator.eventlog import START_QUOTE_RECORDS, Record, replay, start_quote_binding
from laminator.evidence.tpm_structures import Attest

Log = tuple[Record, ...]

NONE = Isolation("none", (), True, False, False)


def test_valid_card_is_accepted() -> None:
    result = judge(world())
    assert result.accepted, result.failures()
    assert result.card == f"sha-256:{parse_card(forge.card_bytes(world())).id.hex()}"
    assert result.trust[:3] == ("simulated", "launch", "self-certified")
    assert result.kind == "evaluation"
    assert {check.verdict for check in result.checks} <= {"pass", "not-applicable"}


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
    with pytest.raises(UsageError, match="time zone"):
        judge(world(), now=forge.NOW.replace(tzinfo=None))


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


# The log against the claims. The attacker signs what it likes, as with an unrestricted key.


def _fully_signed(drafted: forge.World, log: Log) -> forge.World:
    """Return a world with this log, with head, count and both quotes made for it."""
    final = drafted.claims._replace(log=LogSummary(replay(log), len(log)))
    start_head = replay(log[:START_QUOTE_RECORDS])
    start = forge.quote(drafted.machine, final, start_head, start_quote_binding(start_head), 2000)
    return _rebound(drafted, final)._replace(
        log=log, start=start, end=_end_quote(drafted, final, log)
    )


def _end_quote(drafted: forge.World, final: Claims, log: Log) -> Attest:
    bound = binding(encode_claims(final))
    return forge.quote(drafted.machine, final, replay(log), bound, 9000)


def _rebound(drafted: forge.World, final: Claims) -> forge.World:
    """Return a world with other claims and an end quote over them, all else as it was."""
    return drafted._replace(claims=final, end=_end_quote(drafted, final, drafted.log))


@pytest.mark.parametrize(
    "edit",
    [
        lambda log: log[:-1],
        lambda log: (*log, log[-1]),
        lambda log: (*log[:4], log[5], log[4], *log[6:]),
        lambda log: (*log[:5], log[5]._replace(digest=bytes(32)), *log[6:]),
        lambda log: (*log[:2], log[2]._replace(name="other.py"), *log[3:]),
    ],
    ids=["dropped", "repeated", "reordered", "digest", "name"],
)
def test_log_that_is_not_the_claims_is_rejected(edit: Callable[[Log], Log]) -> None:
    drafted = world()
    assert obstacles(judge(_fully_signed(drafted, edit(drafted.log)))) == {"log.claims"}


def test_wrong_head_in_the_claims() -> None:
    drafted = world()
    final = drafted.claims._replace(log=LogSummary(bytes(32), len(drafted.log)))
    assert obstacles(judge(_rebound(drafted, final))) == {"log.head"}


def test_wrong_count_in_the_claims() -> None:
    drafted = world()
    summary = LogSummary(replay(drafted.log), len(drafted.log) + 1)
    final = drafted.claims._replace(log=summary)
    assert obstacles(judge(_rebound(drafted, final))) == {"log.count"}


# The set of evidence.


def _with_evidence(*messages: ConceptualMessage, refs: tuple[EvidenceRef, ...] = ()) -> bytes:
    """Return a card with more evidence, or with other evidence listed in its signed claims."""
    drafted = world()
    if refs:
        drafted = _rebound(drafted, drafted.claims._replace(evidence=refs))
    made = forge.card(drafted)
    return encode_card(made._replace(evidence=(*made.evidence, *messages)))


def test_added_evidence_is_rejected() -> None:
    own = forge.card(world()).evidence[0]
    assert "evidence.set" in obstacles(judge(_with_evidence(own)))


def test_evidence_of_an_unknown_kind_is_rejected() -> None:
    unknown = ConceptualMessage("application/x-unknown", b"x")
    refs = (*world().claims.evidence, EvidenceRef("unknown", b"k" * 32))
    result = judge(_with_evidence(unknown, refs=refs))
    assert "evidence.set" in obstacles(result)
    assert result.trust.root == "none"


def test_listed_evidence_that_is_not_there_is_rejected() -> None:
    refs = (*world().claims.evidence, *world().claims.evidence)
    assert "evidence.set" in obstacles(judge(_with_evidence(refs=refs)))


def test_two_pieces_of_evidence_are_judged_both() -> None:
    drafted = world()
    ref = drafted.claims.evidence[0]
    card = parse_card(_with_evidence(refs=(ref, ref)))
    both = encode_card(card._replace(evidence=(*card.evidence, *card.evidence)))
    result = judge(both)
    assert result.accepted, result.failures()
    assert "evidence.co-location" in {caveat.code for caveat in result.caveats}
    assert sum(check.id == "tpm.binding" for check in result.checks) == 2


def test_stated_voucher_is_not_judged() -> None:
    ref = world().claims.evidence[0]._replace(vouched_by=0)
    result = judge(_with_evidence(refs=(ref,)))
    assert verdict_of(result, "evidence.vouchers") == "not-checked"


def test_evidence_that_is_no_tpm_evidence_fails_its_parse() -> None:
    made = forge.card(world())
    message = made.evidence[0]._replace(value=b"\xa0")
    result = judge(encode_card(made._replace(evidence=(message,))))
    assert "tpm.parse" in obstacles(result)
    assert verdict_of(result, "log.claims") == "not-checked"


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


# The claims by themselves.


def test_measured_without_isolation() -> None:
    assert obstacles(judge(world(isolation=NONE))) == {"claims.isolation"}


def test_reported_without_isolation_is_allowed() -> None:
    reported = tuple(item for item in claims().properties if item.source != "measured")
    result = judge(world(isolation=NONE, properties=reported))
    assert result.accepted
    assert "isolation.none" in {caveat.code for caveat in result.caveats}


@pytest.mark.parametrize(
    "change",
    [
        {"attester_dumpable": True},
        {"no_new_privs": False},
        {"namespaces": ("user", "mount", "net")},
    ],
)
def test_measured_with_weak_isolation(change: dict[str, object]) -> None:
    weak = claims().isolation._replace(**change)  # type: ignore[arg-type]
    assert obstacles(judge(world(isolation=weak))) == {"claims.isolation"}


def test_network_is_a_caveat() -> None:
    open_ = claims().isolation._replace(network=True, namespaces=("user", "mount", "pid"))
    codes = {caveat.code for caveat in judge(world(isolation=open_)).caveats}
    assert "isolation.network" in codes


def test_nonce_of_the_verifier() -> None:
    assert verdict_of(judge(world(), nonce=b"n" * 32), "claims.nonce") == "pass"
    assert obstacles(judge(world(), nonce=b"m" * 32)) == {"claims.nonce"}
    assert obstacles(judge(world(nonce=None), nonce=b"n" * 32)) == {"claims.nonce"}


def test_checked_nonce_removes_its_caveat() -> None:
    def codes(result: VerificationResult) -> set[str]:
        return {caveat.code for caveat in result.caveats}

    assert "freshness.no-nonce" in codes(judge(world()))
    assert "freshness.no-nonce" not in codes(judge(world(), nonce=b"n" * 32))


def test_card_from_the_future() -> None:
    late = int(forge.NOW.timestamp()) + 301
    assert obstacles(judge(world(iat=late))) == {"claims.future"}
    assert judge(world(iat=late - 1)).accepted


def test_time_beyond_any_calendar_is_rejected() -> None:
    assert obstacles(judge(world(iat=2**64 - 1))) == {"claims.future"}


def test_maximum_age() -> None:
    policy = POLICY._replace(maximum_age=3600)
    assert judge(world(), policy).accepted
    assert obstacles(judge(world(iat=IAT - 1), policy)) == {"policy.age"}


# Artifacts.


def test_artifact_of_the_verifier() -> None:
    given_ = {"model": sha256(b"model"), "predictions": sha256(b"out")}
    result = judge(world(), artifacts=given_)
    assert result.accepted
    assert verdict_of(result, "artifact.model") == "pass"


def test_other_artifact_is_rejected() -> None:
    result = judge(world(), artifacts={"model": sha256(b"another model")})
    assert obstacles(result) == {"artifact.model"}


def test_artifact_that_the_card_does_not_name_is_rejected() -> None:
    assert obstacles(judge(world(), artifacts={"x": sha256(b"")})) == {"artifact.x"}


def test_artifact_of_another_given_card_does_not_apply() -> None:
    other = forge.card_bytes(world(outputs=MappingProxyType({"x": claims().inputs["model"]})))
    result = judge(world(), artifacts={"x": sha256(b"model")}, other_cards=[other])
    assert verdict_of(result, "artifact.x") == "not-applicable"
    assert result.accepted


# Lineage.


def _training(**changes: object) -> forge.World:
    model = Artifact("model", sha256(b"model"), 5, 1)
    outputs = MappingProxyType({"weights": model})
    reported = (Property("loss", 0.1, "reported", "train.py"),)
    return world(**{"kind": "training", "outputs": outputs, "properties": reported, **changes})


def _evaluation_of(parent: bytes) -> forge.World:
    return world(cards=MappingProxyType({"model": parse_card(parent).id}))


def test_lineage_of_an_accepted_training() -> None:
    training = forge.card_bytes(_training())
    result = judge(_evaluation_of(training), other_cards=[training])
    assert result.accepted, result.failures()
    assert verdict_of(result, "lineage.model") == "pass"


def test_lineage_that_was_not_given() -> None:
    evaluation = _evaluation_of(forge.card_bytes(_training()))
    result = judge(evaluation)
    assert result.accepted
    assert verdict_of(result, "lineage.model") == "not-checked"
    assert "lineage.not-checked" in {caveat.code for caveat in result.caveats}
    required = POLICY._replace(require=("lineage.model",))
    assert "policy.require.lineage.model" in obstacles(judge(evaluation, required))


def test_lineage_of_another_model() -> None:
    other = MappingProxyType({"weights": Artifact("model", sha256(b"another"), 7, 1)})
    training = forge.card_bytes(_training(outputs=other))
    result = judge(_evaluation_of(training), other_cards=[training])
    assert obstacles(result) == {"lineage.model"}


def test_lineage_of_a_rejected_training() -> None:
    honest = _training()
    forged = honest._replace(end=honest.end._replace(extra_data=bytes(32)))
    training = forge.card_bytes(forged)
    result = judge(_evaluation_of(training), other_cards=[training])
    assert obstacles(result) == {"lineage.model"}


def test_broken_copy_does_not_hide_an_accepted_card() -> None:
    honest = _training()
    broken = forge.card_bytes(honest._replace(end=honest.end._replace(extra_data=bytes(32))))
    training = forge.card_bytes(honest)
    result = judge(_evaluation_of(training), other_cards=[broken, b"no card", training])
    assert result.accepted


def test_inputs_of_a_training_are_not_its_word() -> None:
    inputs = MappingProxyType({"start": Artifact("model", sha256(b"model"), 5, 1)})
    training = forge.card_bytes(_training(inputs=inputs, outputs=MappingProxyType({})))
    result = judge(_evaluation_of(training), other_cards=[training])
    assert obstacles(result) == {"lineage.model"}


def test_datasheet_vouches_for_the_data_that_it_describes() -> None:
    data = MappingProxyType({"data": Artifact("dataset", sha256(b"data"), 4, 1)})
    sheet = forge.card_bytes(_training(kind="datasheet", inputs=data, outputs=MappingProxyType({})))
    evaluation = world(cards=MappingProxyType({"test": parse_card(sheet).id}))
    result = judge(evaluation, other_cards=[sheet])
    assert verdict_of(result, "lineage.test") == "pass"


def test_rules_for_one_card_are_not_asked_of_its_lineage() -> None:
    training = forge.card_bytes(_training(nonce=None, iat=IAT - 10_000))
    policy = POLICY._replace(
        nonce_required=True, maximum_age=5000, require=("ak.revocation", "lineage.model")
    )
    result = judge(_evaluation_of(training), policy, other_cards=[training], nonce=b"n" * 32)
    assert result.accepted, result.failures()


def _chain(length: int) -> list[bytes]:
    cards = [forge.card_bytes(_training())]
    for number in range(length):
        inputs = MappingProxyType({"start": Artifact("model", sha256(b"model"), 5, 1)})
        below = MappingProxyType({"start": parse_card(cards[-1]).id})
        run = claims().run._replace(number=number + 2)
        cards.append(forge.card_bytes(_training(inputs=inputs, cards=below, run=run)))
    return cards


def test_lineage_has_a_depth() -> None:
    cards = _chain(MAX_LINEAGE_DEPTH + 1)
    results = laminator.verify_all(cards, POLICY, trust=forge.machine().trust, now=forge.NOW)
    verdicts = [result.accepted for result in results]
    assert verdicts[:-1] == [True] * (MAX_LINEAGE_DEPTH + 1)
    assert obstacles(results[-1]) == {"lineage.start"}


# Rules of the policy over whole cards.


def _rules(text: str) -> Policy:
    head = 'version = 1\nroots = ["simulated"]\ncoverage = "launch"\ndata-chosen-by = "provider"\n'
    launch = f'[reference]\nlaunch = ["{forge.LAUNCH.digest}"]\n'
    return laminator.parse_policy((head + launch + text).encode(), name="test")


ACCURACY = '[[property]]\nname = "accuracy"\nsource = "measured"\n'


@pytest.mark.parametrize(
    "rule",
    [
        "min = 0.3",
        'min = 0.3\nbound = "interval"',
        'min = 0.75\nmax = 0.75\nbound = "point"',
        'max = 0.95\non = "test"',
        'on = ["test", "model"]\nmeasurer = "laminator.accuracy/1"',
        'parameters = { n = 4, rule = "argmax" }',
    ],
)
def test_property_rule_met(rule: str) -> None:
    assert judge(world(), _rules(ACCURACY + rule)).accepted


@pytest.mark.parametrize(
    "rule",
    [
        "min = 0.31",
        "max = 0.94",
        'min = 0.76\nbound = "point"',
        'on = "predictions"',
        'measurer = "another"',
        "parameters = { n = 5 }",
        "parameters = { n = true }",
        'parameters = { labels = "column:label" }',
    ],
)
def test_property_rule_not_met(rule: str) -> None:
    result = judge(world(), _rules(ACCURACY + rule))
    assert obstacles(result) == {"policy.property.accuracy"}


def test_true_is_no_number_among_parameters() -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    one = measured._replace(parameters=MappingProxyType({"n": 1}))
    policy = _rules(ACCURACY + "parameters = { n = true }")
    assert obstacles(judge(world(properties=(one,)), policy)) == {"policy.property.accuracy"}


def test_parameters_that_no_rule_states_are_a_caveat() -> None:
    def codes(policy: Policy) -> set[str]:
        return {caveat.code for caveat in judge(world(), policy).caveats}

    code = "data.parameters-chosen-by-provider"
    assert code in codes(POLICY)
    assert code not in codes(_rules(ACCURACY + "parameters = { n = 4 }"))


def test_second_better_value_does_not_help() -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    better = measured._replace(value=0.99, interval=None)
    result = judge(world(properties=(measured, better)), _rules(ACCURACY + "min = 0.5"))
    assert obstacles(result) == {"policy.property.accuracy"}


def test_reported_value_does_not_meet_a_measured_rule() -> None:
    boast = Property("accuracy", 0.99, "reported", "train.py", on=("test",))
    result = judge(world(properties=(boast,)), _rules(ACCURACY + "min = 0.9"))
    assert obstacles(result) == {"policy.property.accuracy"}


def test_value_outside_its_interval_is_judged_by_the_worse() -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    odd = measured._replace(value=0.1)
    result = judge(world(properties=(odd,)), _rules(ACCURACY + "min = 0.3"))
    assert obstacles(result) == {"policy.property.accuracy"}


@pytest.mark.parametrize("value", ["0.99", True, None, (0.99,)])
def test_bound_needs_a_number(value: object) -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    odd = measured._replace(value=value, interval=None)  # type: ignore[arg-type]
    result = judge(world(properties=(odd,)), _rules(ACCURACY + "min = 0.3"))
    assert obstacles(result) == {"policy.property.accuracy"}


def test_interval_bound_needs_an_interval() -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    policy = _rules(ACCURACY + 'min = 0.3\nbound = "interval"')
    result = judge(world(properties=(measured._replace(interval=None),)), policy)
    assert obstacles(result) == {"policy.property.accuracy"}


def test_optional_rule_does_not_apply_without_its_property() -> None:
    policy = _rules('[[property]]\nname = "auc"\nsource = "measured"\nrequired = false\nmin = 1')
    result = judge(world(), policy)
    assert result.accepted
    assert verdict_of(result, "policy.property.auc") == "not-applicable"


def test_measured_needs_a_coverage_that_the_policy_names() -> None:
    policy = _rules(ACCURACY + "min = 0.3")._replace(coverage_named=False)
    assert obstacles(judge(world(), policy)) == {"policy.property.accuracy"}


def test_data_of_the_provider() -> None:
    policy = POLICY._replace(data_chosen_by="reference")
    assert obstacles(judge(world(), policy)) == {"policy.data-chosen-by"}


def test_data_of_the_verifier() -> None:
    known = POLICY.references._replace(data=frozenset({sha256(b"data")}))
    policy = POLICY._replace(data_chosen_by="reference", references=known)
    result = judge(world(), policy)
    assert result.accepted
    assert result.statements[1].chosen_by == "reference"
    assert "data.chosen-by-provider" not in {caveat.code for caveat in result.caveats}


def test_measured_on_no_data_is_the_providers_choice() -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    known = POLICY.references._replace(data=frozenset({sha256(b"data")}))
    policy = POLICY._replace(data_chosen_by="reference", references=known)
    result = judge(world(properties=(measured._replace(on=("model",)),)), policy)
    assert obstacles(result) == {"policy.data-chosen-by"}


@pytest.mark.parametrize("kind", ["entry", "interpreter"])
def test_code_reference_values(kind: str) -> None:
    digest: Digest = getattr(claims().workload, kind).digest
    known = POLICY.references._replace(**{kind: frozenset({digest})})
    assert judge(world(), POLICY._replace(references=known)).accepted
    other = POLICY.references._replace(**{kind: frozenset({sha256(b"other")})})
    result = judge(world(), POLICY._replace(references=other))
    assert obstacles(result) == {f"policy.reference.{kind}"}


def test_artifacts_of_the_policy() -> None:
    model = {"model": sha256(b"model")}
    assert judge(world(), POLICY._replace(artifacts=model)).accepted
    other = judge(world(), POLICY._replace(artifacts={"model": sha256(b"other")}))
    assert obstacles(other) == {"policy.artifact.model"}
    absent = judge(world(), POLICY._replace(artifacts={"none": sha256(b"other")}))
    assert obstacles(absent) == {"policy.artifact.none"}


def test_nonce_of_the_policy() -> None:
    policy = POLICY._replace(nonce_required=True)
    assert obstacles(judge(world(), policy)) == {"policy.nonce"}
    assert judge(world(), policy, nonce=b"n" * 32).accepted


def test_nothing_measured_has_no_data_to_choose() -> None:
    reported = tuple(item for item in claims().properties if item.source != "measured")
    policy = POLICY._replace(data_chosen_by="reference")
    result = judge(world(properties=reported), policy)
    assert verdict_of(result, "policy.data-chosen-by") == "not-applicable"


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
