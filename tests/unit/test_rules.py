"""The rules of a policy over whole cards."""

from collections.abc import Mapping
from types import MappingProxyType

import forge
import pytest
from verifying import POLICY, claims, judge, obstacles, verdict_of, world

import laminator
from laminator.appraise.policy import Policy
from laminator.cbor import Value
from laminator.claims import Interval, Property
from laminator.digest import Digest, sha256


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
    assert code in codes(_rules(ACCURACY + "parameters = { n = 4 }"))
    assert code not in codes(_rules(ACCURACY + 'parameters = { rule = "argmax" }'))
    elsewhere = 'required = false\nmin = 0\non = "predictions"\nparameters = { rule = "argmax" }'
    assert code in codes(_rules(ACCURACY + elsewhere))


@pytest.mark.parametrize("rule", ["min = 0.3", 'unit = "1"', 'min = 0.3\nunit = "nats"'])
def test_value_in_another_unit(rule: str) -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    drafted = world(properties=(measured._replace(unit="%"),))
    result = judge(drafted, _rules(ACCURACY + rule))
    assert obstacles(result) == {"policy.property.accuracy"}
    assert "0.75 %" in next(check.detail for check in result.failures())
    assert judge(drafted, _rules(ACCURACY + 'min = 0.3\nunit = "%"')).accepted
    assert judge(drafted, _rules(ACCURACY)).accepted


def test_interval_of_little_confidence() -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    sure = measured._replace(interval=Interval(0.75, 0.75, 1e-9, "wilson"))
    drafted = world(properties=(sure,))
    policy = _rules(ACCURACY + "min = 0.3")
    assert obstacles(judge(drafted, policy)) == {"policy.property.accuracy"}
    assert judge(drafted, _rules(ACCURACY + 'min = 0.3\nbound = "point"')).accepted
    strict = _rules(ACCURACY + "min = 0.3\nconfidence = 0.99")
    assert obstacles(judge(world(), strict)) == {"policy.property.accuracy"}


def test_external_values_meet_no_rule_yet() -> None:
    stated = Property("accuracy", 0.99, "external", "somebody", on=("test",))
    policy = _rules(ACCURACY.replace("measured", "external"))
    assert obstacles(judge(world(properties=(stated,)), policy)) == {"policy.property.accuracy"}


def test_second_better_value_does_not_help() -> None:
    (measured,) = (item for item in claims().properties if item.source == "measured")
    better = measured._replace(on=("test",), value=0.99, interval=None)
    result = judge(world(properties=(measured, better)), _rules(ACCURACY + "min = 0.5"))
    assert obstacles(result) == {"policy.property.accuracy"}


def test_reported_value_does_not_meet_a_measured_rule() -> None:
    boast = Property("accuracy", 0.99, "reported", "train.py", on=("test",))
    result = judge(world(properties=(boast,)), _rules(ACCURACY + "min = 0.9"))
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


def test_nested_values_of_a_result_cannot_be_changed() -> None:
    nested: Value = {"a": {"b": (1, {"c": 2})}}
    odd = Property("odd", nested, "reported", "x", parameters=MappingProxyType({"p": nested}))
    (statement,) = judge(world(properties=(odd,))).statements
    for value in (statement.value, statement.parameters["p"]):
        assert value == nested
        assert isinstance(value, Mapping)
        for each in (value, value["a"]):
            with pytest.raises(TypeError):
                each["new"] = 1  # type: ignore[index]
