"""Claims that a lying attester signs in good order but that no reader may take: not a card."""

from collections.abc import Callable
from typing import Any

import forge
import pytest
from verifying import judge, obstacles, world

from laminator import cbor
from laminator.card import binding
from laminator.claims import PROFILE
from laminator.claims_codec import encode_claims
from laminator.eventlog import encode_log
from laminator.evidence import tpm

Edit = Callable[[dict[Any, Any]], object]

BAD_NAMES = [
    *("", "a" * 101, "-rf", ".hidden", "/absolute", "two words", "line\nbreak", "model\0"),
    *("\x1b[2J", "model\u202etxt", "modèle"),
    *(7, b"model", None),
]


def signed(edit: Edit) -> bytes:
    """Return a card whose claims are edited below the types, with the end quote made over them."""
    honest = world()
    before = encode_claims(honest.claims)
    plain: Any = cbor.decode(before)
    edit(plain)
    claims = cbor.encode(plain)
    end = honest.end._replace(extra_data=binding(claims))
    evidence = tpm.encode_tpm_evidence(forge.evidence(honest._replace(end=end)))
    fields: dict[str, cbor.Encodable] = {
        "profile": PROFILE,
        "claims": claims,
        "log": encode_log(honest.log),
        "evidence": ((tpm.TPM_MEDIA_TYPE, evidence),),
    }
    return cbor.encode(fields)


def refused(edit: Edit) -> None:
    forged = signed(edit)
    assert forged != signed(lambda _: None)
    result = judge(forged)
    assert obstacles(result) >= {"card.parse"}
    assert [check.id for check in result.checks if check.verdict == "fail"] == ["card.parse"]


def property_with(**changes: object) -> Edit:
    """Return an edit of the measured property."""

    def edit(plain: dict[Any, Any]) -> None:
        *others, last = plain["properties"]
        assert last["source"] == "measured"
        plain["properties"] = (*others, {**last, **changes})

    return edit


def interval_with(**changes: object) -> Edit:
    def edit(plain: dict[Any, Any]) -> None:
        plain["properties"][-1]["interval"].update(changes)

    return edit


def test_the_claims_as_they_are() -> None:
    result = judge(signed(lambda _: None))
    assert result.accepted, result.failures()


@pytest.mark.parametrize("group", ["inputs", "outputs"])
@pytest.mark.parametrize("name", [name for name in BAD_NAMES if isinstance(name, str)])
def test_a_bad_name_of_an_artifact(group: str, name: str) -> None:
    refused(lambda plain: plain[group].update({name: plain["inputs"]["model"]}))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_of_a_property(name: object) -> None:
    refused(property_with(name=name))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_of_an_intervals_method(name: object) -> None:
    refused(interval_with(method=name))


@pytest.mark.parametrize("name", ["", "two words", "\x1b[2J", "model\u202etxt", 7])
def test_a_bad_name_of_a_parameter(name: object) -> None:
    refused(property_with(parameters={name: 1}))


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), float("-inf"), 2**53 + 1, -(2**60), b"0.9"]
)
def test_a_value_that_is_no_exact_number(value: object) -> None:
    refused(property_with(value=value))
    refused(property_with(value=(0.5, {"nested": value})))


def test_a_value_of_more_items_than_anybody_reads() -> None:
    refused(property_with(value=(0,) * 10_001))
    refused(property_with(value={f"n{number}": 0 for number in range(10_001)}))
    refused(property_with(value="n" * 4097))


@pytest.mark.parametrize("on", [("nowhere",), ("model", "nowhere"), "model", (7,)])
def test_a_property_about_what_is_not_there(on: object) -> None:
    refused(property_with(on=on))


@pytest.mark.parametrize(
    "change",
    [
        {"low": 0.95, "high": 0.3},
        {"low": float("nan")},
        {"high": float("inf")},
        {"low": 0},
        {"confidence": 0.0},
        {"confidence": 1.0},
    ],
)
def test_an_interval_that_is_none(change: dict[str, object]) -> None:
    refused(interval_with(**change))


@pytest.mark.parametrize("value", [0.29, 0.951, 0, 1, True, "0.75", None, (0.75,)])
def test_an_interval_that_does_not_hold_its_value(value: object) -> None:
    """A good value with somebody else's interval, or an interval around what is no number."""
    refused(property_with(value=value))


@pytest.mark.parametrize("on", [("model", "test"), ("test", "model"), ("test", "model", "test")])
def test_one_thing_stated_twice(on: tuple[str, ...]) -> None:
    """Two accuracies of one model on one data set: who reads by name would take either."""

    def edit(plain: dict[Any, Any]) -> None:
        *others, last = plain["properties"]
        assert sorted(last["on"]) == ["model", "test"]
        plain["properties"] = (*others, last, {**last, "on": on, "value": 0.9})

    refused(edit)


def test_a_name_of_an_input_and_of_an_output() -> None:
    """What a property is `on`, and which digest the verifier's artifact has, would be a choice."""
    refused(lambda plain: plain["outputs"].update(test=plain["inputs"]["test"]))


@pytest.mark.parametrize("group", ["inputs", "outputs"])
@pytest.mark.parametrize("lie", ["dataset", "file"])
def test_a_model_that_is_typed_as_something_else(group: str, lie: str) -> None:
    """It would need no training behind it, and nobody would say that its origin is not stated."""

    def edit(plain: dict[Any, Any]) -> None:
        model = plain["inputs"].pop("model")
        assert model["type"] == "model"
        plain["properties"] = ()
        plain[group]["model"] = {**model, "type": lie}

    refused(edit)


@pytest.mark.parametrize("seed", [2**53 + 1, -1, "clock", True, 0.5])
def test_a_seed_rule_that_is_none(seed: object) -> None:
    refused(lambda plain: plain["run"].update({"seed": seed}))


@pytest.mark.parametrize("nonce", [b"", b"n" * 7, b"n" * 65, "n" * 32])
def test_a_nonce_of_no_size_that_a_nonce_has(nonce: object) -> None:
    refused(lambda plain: plain.update({10: nonce}))


@pytest.mark.parametrize(
    "digest",
    [("sha-256", bytes(31)), ("sha-1", bytes(20)), ("md5", bytes(32)), (bytes(32),), bytes(32)],
)
def test_a_digest_that_is_none(digest: object) -> None:
    refused(lambda plain: plain["inputs"]["model"].update(digest=digest))


@pytest.mark.parametrize(
    "edit",
    [
        lambda plain: plain.update(kind="certificate"),
        lambda plain: plain.update({6: -1}),
        lambda plain: plain.update({6: True}),
        lambda plain: plain.update({265: "tag:laminator,2025:card-v0"}),
        lambda plain: plain.update(evidence=()),
        lambda plain: plain.update(cards={"other": bytes(32)}),
        lambda plain: plain.update(cards={"model": bytes(31)}),
        lambda plain: plain.update(verdict="accepted"),
        lambda plain: plain.pop("isolation"),
        lambda plain: plain.update(inputs=()),
        lambda plain: plain["isolation"].update({"network": 0}),
        lambda plain: plain["run"]["launch"].pop("digest"),
        lambda plain: plain["run"]["launch"].update(type="none"),
        lambda plain: plain["run"].update(number=-1),
    ],
    ids=[
        *("kind", "negative time", "true as a time", "profile", "no evidence"),
        *("card of no input", "short card id", "unknown field", "missing field", "inputs"),
        *("number as a flag", "launch of nothing", "no launch of something", "negative number"),
    ],
)
def test_a_field_that_is_not_what_it_should_be(edit: Edit) -> None:
    refused(edit)
