"""Statements that are well formed and made to be read wrongly: twins, units, odd numbers."""

import json
import math
from types import MappingProxyType

import forge
import pytest
from verifying import POLICY, claims, judge, obstacles, verdict_of, world

import laminator
from laminator.appraise.policy import Policy, References
from laminator.appraise.result import VerificationResult
from laminator.card import parse_card
from laminator.claims import Artifact, Property
from laminator.digest import sha256
from laminator.report.card_text import card_text
from laminator.report.result_text import result_text


def rule(text: str) -> Policy:
    """Return the forged machine's policy with a rule about a measured accuracy."""
    head = 'version = 1\nroots = ["simulated"]\n[[property]]\nname = "accuracy"\n'
    asked = laminator.parse_policy(f'{head}source = "measured"\n{text}'.encode(), name="test")
    return POLICY._replace(properties=asked.properties)


def accuracy(**changes: object) -> Property:
    (found,) = (item for item in claims().properties if item.name == "accuracy")
    return found._replace(**changes)  # type: ignore[arg-type]


def shown(result: VerificationResult) -> list[str]:
    """Return the lines of the report that state an accuracy."""
    lines = result_text(result, "x.card").splitlines()
    return [line for line in lines if line.startswith("  - [") and "] accuracy" in line]


# Two properties of one name.


TWINS = (
    accuracy(on=("test",), value=0.99, interval=None),
    accuracy(on=("model", "test"), value=0.2, interval=None),
)


def test_a_rule_is_about_both_twins() -> None:
    assert judge(world(properties=TWINS[:1]), rule("min = 0.9")).accepted
    for pair in (TWINS, TWINS[::-1]):
        result = judge(world(properties=pair), rule("min = 0.9"))
        assert obstacles(result) == {"policy.property.accuracy"}


def test_no_report_leaves_a_twin_out() -> None:
    forged = world(properties=TWINS)
    result = judge(forged)
    assert result.accepted
    assert [line.rpartition(" ")[2] for line in shown(result)] == ["0.99", "0.2"]
    stated = json.loads(json.dumps(result.to_json()))["properties"]
    assert [item["value"] for item in stated] == [0.99, 0.2]
    text = card_text(forge.card(forged))
    assert ("0.99" in text, "0.2" in text) == (True, True)


def test_a_twin_on_a_lesser_word_does_not_hide_the_measured_one() -> None:
    boast = accuracy(source="reported", measurer="laminator.accuracy/1", value=0.99, interval=None)
    for pair in ((boast, TWINS[1]), (TWINS[1], boast)):
        result = judge(world(properties=pair), rule("min = 0.9"))
        assert obstacles(result) == {"policy.property.accuracy"}
        whose = {line.split()[1].strip("["): line for line in shown(judge(world(properties=pair)))}
        assert set(whose) == {"measured", "reported"}
        assert "0.99" in whose["reported"]
        assert "0.2" in whose["measured"]


def test_a_measurer_whose_name_only_looks_right() -> None:
    alike = "laminator.\u0430ccuracy/1"  # a Cyrillic letter
    assert alike != accuracy().measurer
    forged = world(properties=(accuracy(measurer=alike),))
    result = judge(forged, rule('measurer = "laminator.accuracy/1"'))
    assert obstacles(result) == {"policy.property.accuracy"}
    assert f'"{alike}"' in shown(judge(forged))[0]  # in quotation marks, unlike a plain name


# Units.


@pytest.mark.parametrize("unit", ["ms", "%", "1 ", "\u0455", "S", "s\u200b", "seconds"])
@pytest.mark.parametrize("asked", ['max = 1\nunit = "s"', "max = 1"])
def test_a_swapped_unit(unit: str, asked: str) -> None:
    wanted = "s" if "unit" in asked else None
    right = accuracy(value=0.5, interval=None, unit=wanted)
    assert judge(world(properties=(right,)), rule(asked)).accepted
    result = judge(world(properties=(right._replace(unit=unit),)), rule(asked))
    assert obstacles(result) == {"policy.property.accuracy"}


def test_a_unit_that_spells_a_better_value() -> None:
    forged = world(
        properties=(accuracy(value=0.2, interval=None, unit="\x08\x08\x08\x08\x080.99"),)
    )
    (line,) = shown(judge(forged))
    assert r'= 0.2 "\x08\x08\x08\x08\x080.99"' in line


# Numbers.


@pytest.mark.parametrize("zero", [-0.0, 0.0, 0])
def test_a_zero_is_a_zero_whatever_its_sign(zero: float) -> None:
    forged = world(properties=(accuracy(value=zero, interval=None),))
    assert parse_card(forge.card_bytes(forged)).claims.properties[0].value == 0
    assert judge(forged, rule("min = 0\nmax = 0")).accepted
    result = judge(forged, rule("min = 5e-324"))
    assert obstacles(result) == {"policy.property.accuracy"}


@pytest.mark.parametrize("value", [2**53, -(2**53), 1.7976931348623157e308, 5e-324])
def test_a_number_at_the_edge_is_the_same_in_every_reader(value: float) -> None:
    forged = world(properties=(accuracy(value=value, interval=None),))
    said = json.loads(json.dumps(judge(forged).to_json()))["properties"][0]["value"]
    assert said == value
    assert math.isfinite(float(said))


# Types of inputs.


def test_data_that_is_typed_as_a_model_is_not_the_verifiers_data() -> None:
    """A model's digest is no data: an accuracy on models only is on what the provider chose."""
    known = sha256(b"data")
    honest = claims().inputs
    assert honest["test"].digest == known
    policy = POLICY._replace(
        data_chosen_by="reference",
        references=POLICY.references._replace(data=frozenset({known, honest["model"].digest})),
    )
    assert judge(world(), policy).accepted
    retyped = MappingProxyType({**honest, "test": honest["test"]._replace(type="model")})
    assert obstacles(judge(world(inputs=retyped), policy)) == {"policy.data-chosen-by"}


def test_a_model_under_another_name_and_type_has_no_origin() -> None:
    """As a data set it may come from a data sheet, but then no lineage of a model passes."""
    model = claims().inputs["model"]
    inputs = MappingProxyType({"weights": model._replace(type="dataset")})
    sheet = forge.card_bytes(
        world(kind="datasheet", inputs=inputs, outputs=MappingProxyType({}), properties=())
    )
    cards = MappingProxyType({"weights": parse_card(sheet).id})
    forged = world(inputs=inputs, properties=(), cards=cards)
    policy = POLICY._replace(require=("lineage.model",))
    result = judge(forged, policy, other_cards=[sheet])
    assert verdict_of(result, "lineage.weights") == "pass"
    assert obstacles(result) == {"lineage.model", "policy.require.lineage.model"}


def test_a_reference_value_of_code_is_no_reference_value_of_data() -> None:
    entry = claims().workload.entry.digest
    data = Artifact("dataset", entry, 4, 1)
    references = References(launch=POLICY.references.launch, entry=frozenset({entry}))
    policy = POLICY._replace(data_chosen_by="reference", references=references)
    forged = world(inputs=MappingProxyType({**claims().inputs, "test": data}))
    assert obstacles(judge(forged, policy)) == {"policy.data-chosen-by"}
