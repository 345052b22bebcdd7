"""Failure records and ledgers: one encoding each, bounded, and never a card's."""

import pycddl
import pytest
from cddl import CDDL
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_sim.adversary.forged_ledger import (
    card_of,
    failed_run,
    failure,
    failure_bytes,
    ledger,
    run_of,
)
from laminator import cbor
from laminator.appraise.policy import Policy, PropertyRule, References
from laminator.card import binding
from laminator.digest import sha256
from laminator.errors import MalformedError
from laminator.eventlog import EMPTY_HEAD, replay
from laminator.failure import (
    FAILURE_PROFILE,
    OUTCOMES,
    FailureRecord,
    encode_failure,
    encode_failure_claims,
    expected_records,
    failure_binding,
    parse_failure,
)
from laminator.ledger import MAX_NUMBERS, encode_ledger, parse_entry, parse_ledger

RECORD = failure_bytes(failed_run(8))


def altered(**changes: cbor.Value) -> bytes:
    """Return a record whose plain claims are changed; a value of None leaves the field out."""
    record = failure(failed_run(8))
    plain = cbor.decode(record.claims_bytes)
    assert isinstance(plain, dict)
    keys = {"iat": 6, "nonce": 10, "profile": 265}
    for name, value in changes.items():
        plain = {**plain, keys.get(name, name): value}
    claims = cbor.encode({key: value for key, value in plain.items() if value is not None})
    return cbor.encode({"profile": FAILURE_PROFILE, "claims": claims, "evidence": record.evidence})


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_record_comes_back(outcome: str) -> None:
    record = failure(failed_run(8, outcome))
    assert parse_failure(encode_failure(record)) == record
    assert record.claims.outcome == outcome


def test_a_record_without_a_nonce_comes_back() -> None:
    claims = failed_run(8).claims._replace(nonce=None)
    record = FailureRecord(encode_failure_claims(claims), claims, failure(failed_run(8)).evidence)
    assert parse_failure(encode_failure(record)).claims.nonce is None


def test_the_formats_fit_their_cddl() -> None:
    rules = CDDL.read_text()
    record, whole = failure_bytes(failed_run(8)), ledger(7, 8, card_of(7), card_of(8))
    pycddl.Schema(f"start = failure\n{rules}").validate_cbor(record)
    pycddl.Schema(f"start = ledger\n{rules}").validate_cbor(whole)
    with pytest.raises(pycddl.ValidationError):
        pycddl.Schema(rules).validate_cbor(record)
    with pytest.raises(pycddl.ValidationError):
        pycddl.Schema(f"start = failure\n{rules}").validate_cbor(card_of(7))


def test_its_binding_is_no_card_s() -> None:
    record = failure(failed_run(8))
    assert record.id == failure_binding(record.claims_bytes) != binding(record.claims_bytes)


def test_its_log_ends_with_the_outcome() -> None:
    claims = failed_run(8, "refused").claims
    log = expected_records(claims, b"attest")
    assert [record.event for record in log] == ["counter", "start", "failed"]
    assert log[-1].name == "refused"
    others = {
        replay(expected_records(claims._replace(outcome=each), b"attest")) for each in OUTCOMES
    }
    assert len(others) == len(OUTCOMES)
    assert EMPTY_HEAD not in others


@pytest.mark.parametrize(
    "data",
    [
        altered(outcome="card"),
        altered(outcome=None),
        altered(iat=-1),
        altered(nonce=b"short"),
        altered(more=1),
        altered(run=None),
        altered(evidence=None),
        altered(evidence={"kind": "tpm", "key": bytes(32), "vouched-by": 0}),
        altered(profile="tag:laminator,2026:card-v1"),
        altered(outcome="x" * 5000),
        b"",
        cbor.encode({"profile": FAILURE_PROFILE}),
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_failure(data)


def test_claims_that_are_not_those_of_their_bytes_are_not_written() -> None:
    record = failure(failed_run(8))
    other = record._replace(claims=record.claims._replace(outcome="refused"))
    with pytest.raises(MalformedError, match="not those of their bytes"):
        encode_failure(other)
    with pytest.raises(MalformedError):
        encode_failure_claims(record.claims._replace(outcome="died"))


def test_a_ledger_too_long_is_not_written() -> None:
    with pytest.raises(MalformedError, match="array"):
        encode_ledger(1, 2, [b"x"] * (MAX_NUMBERS + 1))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_as_the_one_encoding(data: bytes) -> None:
    for parse in (parse_failure, parse_ledger, parse_entry):
        with pytest.raises(MalformedError):
            parse(data)


@settings(deadline=None)
@given(st.data())
def test_a_flipped_bit_is_another_record_or_none(data: st.DataObject) -> None:
    content = bytearray(RECORD)
    place = data.draw(st.integers(0, 8 * len(content) - 1))
    content[place // 8] ^= 1 << place % 8
    try:
        record = parse_failure(bytes(content))
    except MalformedError:
        return
    assert encode_failure(record) == content


def test_a_policy_for_a_ledger_asks_for_trust_alone() -> None:
    launch, entry = frozenset({sha256(b"launch")}), frozenset({sha256(b"entry")})
    policy = Policy(
        roots=("tpm",),
        coverage="attester",
        require=("ak.revocation", "tpm.launch", "run.counter.name", "lineage.model", "log.head"),
        nonce_required=True,
        maximum_age=60,
        references=References(launch=launch, entry=entry, interpreter=entry, data=entry),
        properties=(PropertyRule("policy.property.x", "x", ("measured",)),),
        artifacts={"model": sha256(b"model")},
    )
    asked = policy.for_ledger()
    assert (asked.roots, asked.coverage) == (("tpm",), "attester")
    assert asked.require == ("ak.revocation", "tpm.launch", "run.counter.name")
    assert asked.references == References(launch=launch)
    assert (asked.nonce_required, asked.maximum_age) == (False, None)
    assert (asked.properties, asked.artifacts, asked.data_chosen_by) == ((), {}, "provider")


def test_the_run_in_a_record_is_a_card_s() -> None:
    assert parse_failure(failure_bytes(failed_run(8))).claims.run == run_of(8)
