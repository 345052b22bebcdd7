"""Honest cards that say less than the verifier asks: in a whole card, one rule says no."""

from types import MappingProxyType

import forge
import pytest
from verifying import IAT, POLICY, claims, judge, obstacles, world

import laminator
from laminator.appraise.policy import BUILT_IN, Policy, References
from laminator.claims import Launch, Property
from laminator.digest import Digest, sha256
from laminator.errors import UsageError

ACCURACY = '[[property]]\nname = "accuracy"\nsource = "measured"\n'
OTHER = sha256(b"another")


def rules(text: str) -> Policy:
    """Return the policy of the forged machine with more rules."""
    head = 'version = 1\nroots = ["simulated"]\ncoverage = "launch"\ndata-chosen-by = "provider"\n'
    launch = f'[reference]\nlaunch = ["{forge.LAUNCH.digest}"]\n'
    return laminator.parse_policy((head + launch + text).encode(), name="test")


def measured() -> Property:
    (found,) = (item for item in claims().properties if item.source == "measured")
    return found


def test_the_honest_card_meets_the_policy() -> None:
    assert judge(world(), POLICY).accepted
    assert judge(world(), rules(ACCURACY + "min = 0.3")).accepted


def test_a_simulated_machine_where_hardware_is_asked_for() -> None:
    policy = POLICY._replace(roots=BUILT_IN.roots)
    assert judge(world(), POLICY).trust.root == "simulated"
    assert obstacles(judge(world(), policy)) == {"policy.root"}


def test_a_run_without_a_launch() -> None:
    run = claims().run._replace(launch=Launch("none"))
    unlaunched = world(run=run)
    policy = POLICY._replace(references=References())
    assert judge(unlaunched, policy).trust.coverage == "none"
    assert obstacles(judge(unlaunched, policy)) == {"policy.coverage"}


def test_a_launch_of_other_code() -> None:
    launch = Launch("drtm-simulated", OTHER)
    result = judge(world(run=claims().run._replace(launch=launch)))
    assert obstacles(result) == {"policy.coverage", "policy.reference.launch"}


@pytest.mark.parametrize("kind", ["entry", "interpreter"])
def test_other_code_than_the_reference_values(kind: str) -> None:
    known: Digest = getattr(claims().workload, kind).digest
    assert known != OTHER
    references = POLICY.references._replace(**{kind: frozenset({OTHER})})
    result = judge(world(), POLICY._replace(references=references))
    assert obstacles(result) == {f"policy.reference.{kind}"}


def test_an_authority_of_the_providers_own() -> None:
    policy = POLICY._replace(authority="independent", independent_authorities=frozenset({OTHER}))
    assert judge(world(), policy).trust.authority == "self-certified"
    assert obstacles(judge(world(), policy)) == {"policy.independence"}


def test_a_card_without_the_verifiers_nonce() -> None:
    policy = POLICY._replace(nonce_required=True)
    assert obstacles(judge(world(), policy)) == {"policy.nonce"}
    assert obstacles(judge(world(nonce=None), policy)) == {"policy.nonce"}


def test_a_card_that_is_too_old() -> None:
    policy = POLICY._replace(maximum_age=3600)
    assert judge(world(iat=IAT), policy).accepted
    assert obstacles(judge(world(iat=IAT - 1), policy)) == {"policy.age"}


def test_another_artifact_than_the_policy_names() -> None:
    assert judge(world(), POLICY._replace(artifacts={"model": sha256(b"model")})).accepted
    result = judge(world(), POLICY._replace(artifacts={"model": OTHER}))
    assert obstacles(result) == {"policy.artifact.model"}


def test_data_that_the_provider_chose() -> None:
    policy = POLICY._replace(data_chosen_by="reference")
    assert claims().inputs["test"].digest not in policy.references.data
    assert obstacles(judge(world(), policy)) == {"policy.data-chosen-by"}


@pytest.mark.parametrize(
    "rule",
    [
        "min = 0.31",
        "max = 0.94",
        'on = "predictions"',
        'measurer = "another"',
        "parameters = { n = 5 }",
        'min = 0.3\nunit = "nats"',
    ],
)
def test_a_value_that_the_rule_does_not_let_through(rule: str) -> None:
    assert obstacles(judge(world(), rules(ACCURACY + rule))) == {"policy.property.accuracy"}


def test_an_interval_left_out_where_a_confidence_is_asked_for() -> None:
    """A poor interval would fail the rule; no interval is no better, whatever the value alone."""
    bare = world(properties=(measured()._replace(interval=None),))
    assert bare.claims.properties[0].value == measured().value
    assert judge(bare, rules(ACCURACY + "min = 0.3")).accepted
    asked = rules(ACCURACY + "min = 0.3\nconfidence = 0.95")
    assert judge(world(), asked).accepted
    assert obstacles(judge(bare, asked)) == {"policy.property.accuracy"}


def test_a_second_better_value() -> None:
    poor, good = measured()._replace(value=0.1, interval=None), measured()
    both = world(properties=(poor, good._replace(on=("test",))))
    assert judge(world(), rules(ACCURACY + "min = 0.3")).accepted
    result = judge(both, rules(ACCURACY + "min = 0.3"))
    assert obstacles(result) == {"policy.property.accuracy"}


@pytest.mark.parametrize("source", ["reported", "declared", "external"])
def test_a_value_on_a_lesser_word(source: str) -> None:
    lesser = world(properties=(measured()._replace(source=source),))
    result = judge(lesser, rules(ACCURACY))
    assert obstacles(result) == {"policy.property.accuracy"}


def test_an_external_value_without_a_signature() -> None:
    external = world(properties=(measured()._replace(source="external"),))
    policy = rules('[[property]]\nname = "accuracy"\nsource = "external"\n')
    assert obstacles(judge(external, policy)) == {"policy.property.accuracy"}


def test_a_value_under_a_coverage_that_nobody_named() -> None:
    policy = rules(ACCURACY)._replace(coverage_named=False)
    assert obstacles(judge(world(), policy)) == {"policy.property.accuracy"}


def test_a_card_that_is_silent_about_what_is_required() -> None:
    silent = world(properties=())
    assert obstacles(judge(silent, rules(ACCURACY))) == {"policy.property.accuracy"}


def test_a_required_check_that_could_not_be_made() -> None:
    cards = MappingProxyType({"model": bytes(32)})
    policy = POLICY._replace(require=("lineage.model",))
    assert judge(world(cards=cards)).accepted
    found = obstacles(judge(world(cards=cards), policy))
    assert found == {"lineage.model", "policy.require.lineage.model"}


@pytest.mark.parametrize(
    "text",
    [
        "minimum = 0.9\n",
        "min = 0.9\nmax = 0.1\n",
        "min = nan\n",
        "min = inf\n",
        'bound = "interval"\n',
        'sources = ["measured"]\n',
    ],
    ids=["misspelt", "contradiction", "nan", "infinite", "bound of nothing", "unknown key"],
)
def test_a_rule_that_would_let_anything_through_is_refused(text: str) -> None:
    assert rules(ACCURACY)
    with pytest.raises(UsageError):
        rules(ACCURACY + text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"min = {2**63}\n", "beyond 64 bits"),
        ("min = 2026-01-01\n", "text, a number, true, false, an array or a table"),
        ("parameters = { day = 12:00:00 }\n", "text, a number, true, false, an array or a table"),
    ],
    ids=["huge", "date", "time"],
)
def test_a_rule_with_a_value_of_no_kind_that_cards_have(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rules(ACCURACY + text)
