import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycddl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_sim.adversary import forged_claims as samples
from laminator import cbor, eventlog
from laminator.card import Card, binding, encode_card, parse_card
from laminator.claims import Interval, Launch, LogSummary, Property
from laminator.claims_codec import encode_claims, parse_claims
from laminator.errors import MalformedError
from laminator.eventlog import Record

CDDL = Path(__file__).parents[2] / "docs" / "card.cddl"


def _changed(change: Callable[[dict[Any, Any]], object]) -> bytes:
    plain: Any = cbor.decode(encode_claims(samples.claims()))
    change(plain)
    return cbor.encode(plain)


def test_a_card_reads_back_as_it_was() -> None:
    card = samples.card()
    assert parse_card(encode_card(card)) == card


def test_a_card_fits_its_cddl() -> None:
    pycddl.Schema(CDDL.read_text()).validate_cbor(encode_card(samples.card()))


@pytest.mark.parametrize("part", ["claims", "log"])
def test_the_cddl_refuses_what_does_not_fit(part: str) -> None:
    plain: Any = cbor.decode(encode_card(samples.card()))
    plain[part] = cbor.encode({"profile": "x"})
    with pytest.raises(pycddl.ValidationError):
        pycddl.Schema(CDDL.read_text()).validate_cbor(cbor.encode(plain))


def test_claims_without_optional_fields_fit_the_cddl() -> None:
    card = samples.card()
    claims = card.claims._replace(
        nonce=None, cards=None, run=card.claims.run._replace(plan=None, launch=Launch("none"))
    )
    bare = Card(encode_claims(claims), claims, card.log, card.evidence)
    pycddl.Schema(CDDL.read_text()).validate_cbor(encode_card(bare))
    assert parse_card(encode_card(bare)) == bare


def test_the_binding_is_the_documented_hash() -> None:
    card = samples.card()
    expected = hashlib.sha256(b"laminator-card-v1\0" + card.claims_bytes).digest()
    assert card.id == binding(card.claims_bytes) == expected


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_changed_byte_is_malformed_or_another_card(data: st.DataObject) -> None:
    original = encode_card(samples.card())
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        card = parse_card(bytes(changed))
    except MalformedError:
        return
    assert card != samples.card()
    assert encode_card(card) == bytes(changed)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_malformed(data: bytes) -> None:
    for parse in (parse_card, parse_claims, eventlog.parse_log):
        try:
            parse(data)
        except MalformedError:
            continue
        assert parse is eventlog.parse_log


def _set(*path: object, to: object) -> Callable[[dict[Any, Any]], object]:
    def change(plain: dict[Any, Any]) -> None:
        target: Any = plain
        *parents, last = path
        for part in parents:
            if isinstance(target[part], tuple):
                target[part] = list(target[part])
            target = target[part]
        target[last] = to

    return change


BAD_CLAIMS = {
    "another profile": _set(265, to="tag:laminator,2026:card-v2"),
    "unknown claim": _set("extra", to=1),
    "unknown integer claim": _set(11, to=1),
    "unknown kind": _set("kind", to="promise"),
    "negative iat": _set(6, to=-1),
    "boolean iat": _set(6, to=True),
    "short nonce": _set(10, to=b"1234567"),
    "long nonce": _set(10, to=bytes(65)),
    "short run id": _set("run", "id", to=bytes(15)),
    "launch without digest": _set("run", "launch", to={"type": "drtm-simulated"}),
    "digest without launch": _set(
        "run", "launch", to={"type": "none", "digest": ("sha-256", bytes(32))}
    ),
    "unknown launch": _set("run", "launch", "type", to="drtm-amd"),
    "unknown field of run": _set("run", "host", to="x"),
    "digest of the wrong size": _set("inputs", "test", "digest", to=("sha-256", bytes(31))),
    "unknown digest": _set("inputs", "test", "digest", to=("sha-1", bytes(20))),
    "digest with three parts": _set("inputs", "test", "digest", to=("sha-256", bytes(32), 1)),
    "name with a space": _set("inputs", "my data", to={}),
    "name with a newline": _set("inputs", "data\n", to={}),
    "name that is empty": _set("inputs", "", to={}),
    "integer key among names": _set("inputs", 1, to={}),
    "no evidence": _set("evidence", to=()),
    "evidence as a map": _set("evidence", to={}),
    "too much evidence": _set("evidence", to=({"kind": "tpm", "key": bytes(32)},) * 17),
    "head of the wrong size": _set("log", "head", to=bytes(31)),
    "flag as a number": _set("isolation", "network", to=0),
    "unknown separation": _set("isolation", "separation", to="vm"),
    "commitment of the wrong size": _set("workload", "arguments", to=(bytes(31),)),
    "long text": _set("workload", "entry", "label", to="x" * 4097),
    "unknown source": _set("properties", 1, "source", to="attested"),
    "NaN metric": _set("properties", 1, "value", to=float("nan")),
    "infinite metric": _set("properties", 1, "value", to=float("inf")),
    "huge integer metric": _set("properties", 1, "value", to=2**53 + 1),
    "bytes metric": _set("properties", 1, "value", to=b"x"),
    "NaN inside a metric": _set("properties", 1, "value", to=(1, {"x": float("nan")})),
    "NaN parameter": _set("properties", 1, "parameters", to={"x": float("-inf")}),
    "on something else": _set("properties", 1, "on", to=("other",)),
    "interval upside down": _set("properties", 1, "interval", "low", to=2.0),
    "interval with integers": _set("properties", 1, "interval", "low", to=0),
    "infinite interval": _set("properties", 1, "interval", "high", to=float("inf")),
    "certain interval": _set("properties", 1, "interval", "confidence", to=1.0),
    "card for no input": _set("cards", "other", to=bytes(32)),
    "card id of the wrong size": _set("cards", "model", to=bytes(31)),
}


@pytest.mark.parametrize("change", BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
def test_bad_claims_are_refused(change: Callable[[dict[Any, Any]], object]) -> None:
    with pytest.raises(MalformedError):
        parse_claims(_changed(change))


@pytest.mark.parametrize(
    "missing",
    [6, 265, "kind", "run", "workload", "log", "evidence", "isolation", "inputs", "outputs"],
)
def test_missing_claims_are_refused(missing: object) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_claims(_changed(lambda plain: plain.pop(missing)))
    assert caught.value.code == "field.missing"
    assert caught.value.path == "claims"


def test_claims_that_could_not_be_read_are_not_written() -> None:
    claims = samples.claims()
    bad = Property("accuracy", float("nan"), "measured", "m")
    with pytest.raises(MalformedError):
        encode_claims(claims._replace(properties=(bad,)))
    with pytest.raises(MalformedError):
        encode_claims(claims._replace(log=LogSummary(b"", 0)))


def test_a_card_with_other_claims_than_its_bytes_is_not_written() -> None:
    card = samples.card()
    with pytest.raises(MalformedError) as caught:
        encode_card(card._replace(claims=card.claims._replace(iat=1)))
    assert caught.value.code == "card.claims"


@pytest.mark.parametrize(
    "evidence", [(), (("a/b",),), (("a/b", b""),), ((1, b"x"),), ("ab",), (("a/b", b"x", 1),)]
)
def test_bad_evidence_is_refused(evidence: object) -> None:
    plain: Any = cbor.decode(encode_card(samples.card()))
    plain["evidence"] = evidence
    with pytest.raises(MalformedError):
        parse_card(cbor.encode(plain))


def test_endorsements_are_present_or_the_field_is_absent() -> None:
    plain: Any = cbor.decode(encode_card(samples.card()))
    plain["endorsements"] = ()
    with pytest.raises(MalformedError):
        parse_card(cbor.encode(plain))


def test_the_replay_is_the_chain_of_a_pcr() -> None:
    records = (Record("a", "", bytes(32)), Record("b", "n", b"x" * 32))
    head = bytes(32)
    for record in records:
        event = hashlib.sha256(cbor.encode([record.event, record.name, record.digest])).digest()
        head = hashlib.sha256(head + event).digest()
    assert eventlog.replay(records) == head


def test_the_log_follows_from_the_claims() -> None:
    claims = samples.claims()
    events = [record.event for record in eventlog.expected_records(claims, b"attest")]
    assert events == [
        *("counter", "start", "entry", "interpreter", "arguments", "environment"),
        *("distributions", "isolation", "input", "input", "property", "begin", "property"),
        *("end", "output"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c._replace(nonce=b"m" * 32),
        lambda c: c._replace(run=c.run._replace(number=8)),
        lambda c: c._replace(run=c.run._replace(plan=None)),
        lambda c: c._replace(isolation=c.isolation._replace(network=True)),
        lambda c: c._replace(inputs={"model": c.inputs["model"]}),
        lambda c: c._replace(outputs={}),
        lambda c: c._replace(properties=c.properties[:1]),
        lambda c: c._replace(
            properties=(
                c.properties[0],
                c.properties[1]._replace(interval=Interval(0.4, 0.9, 0.95, "wilson")),
            )
        ),
        lambda c: c._replace(workload=c.workload._replace(arguments=())),
        lambda c: c._replace(
            workload=c.workload._replace(entry=c.workload.entry._replace(label="other.py"))
        ),
    ],
)
def test_other_claims_have_another_log(change: Callable[[Any], Any]) -> None:
    claims = samples.claims()
    before = eventlog.expected_records(claims, b"attest")
    assert eventlog.expected_records(change(claims), b"attest") != before
    assert eventlog.expected_records(claims, b"another") != before


@pytest.mark.parametrize("record", [(), ("a", "b"), ("a", "b", bytes(31)), (1, "b", bytes(32))])
def test_bad_records_are_refused(record: object) -> None:
    with pytest.raises(MalformedError):
        eventlog.parse_log(cbor.encode((record,)))  # type: ignore[arg-type]
