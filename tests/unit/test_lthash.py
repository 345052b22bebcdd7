"""LtHash16: equal for every order and split, and for nothing else that is tried."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laminator.errors import MalformedError
from laminator.measure.lthash import (
    DOMAIN,
    EMPTY,
    LANES,
    STATE_BYTES,
    Multiset,
    hash_records,
    parse_state,
)

SCHEMA = hashlib.sha256(b"schema").digest()
RECORDS = st.lists(st.binary(max_size=8), max_size=12)


def slow(records: list[bytes]) -> Multiset:
    """Add lane by lane, as the definition says."""
    lanes = [0] * LANES
    for record in records:
        expanded = hashlib.shake_256(DOMAIN + SCHEMA + record).digest(STATE_BYTES)
        for lane in range(LANES):
            word = int.from_bytes(expanded[2 * lane : 2 * lane + 2], "little")
            lanes[lane] = (lanes[lane] + word) % 65536
    return Multiset(len(records), b"".join(lane.to_bytes(2, "little") for lane in lanes))


@settings(max_examples=20)
@given(RECORDS)
def test_it_is_the_sum_by_lanes(records: list[bytes]) -> None:
    assert hash_records(records, SCHEMA) == slow(records)


def test_more_records_than_a_slot_holds_are_folded() -> None:
    one = hash_records([b"x"], SCHEMA)
    whole = hash_records([b"x"] * 70_000, SCHEMA)
    doubled, total, left = one, EMPTY, 70_000
    while left:
        total = total + doubled if left & 1 else total
        doubled, left = doubled + doubled, left >> 1
    assert whole == total


@given(RECORDS, RECORDS, st.randoms())
def test_order_and_split_do_not_matter(
    left: list[bytes], right: list[bytes], random: object
) -> None:
    whole = [*left, *right]
    random.shuffle(whole)  # type: ignore[attr-defined]
    parts = hash_records(left, SCHEMA), hash_records(right, SCHEMA)
    assert hash_records(whole, SCHEMA) == parts[0] + parts[1]
    assert hash_records(whole, SCHEMA) - parts[0] == parts[1]


@given(RECORDS, RECORDS)
def test_other_multisets_have_other_digests(left: list[bytes], right: list[bytes]) -> None:
    same = sorted(left) == sorted(right)
    assert (hash_records(left, SCHEMA).digest == hash_records(right, SCHEMA).digest) == same


def test_another_schema_is_another_digest() -> None:
    assert hash_records([b"x"], SCHEMA) != hash_records([b"x"], bytes(32))


def test_a_part_larger_than_the_whole_is_refused() -> None:
    with pytest.raises(MalformedError, match="-1 records"):
        _ = EMPTY - hash_records([b"x"], SCHEMA)


@pytest.mark.parametrize(("number", "state"), [(1, b""), (-1, bytes(2048)), (1 << 64, bytes(2048))])
def test_a_strange_state_is_refused(number: int, state: bytes) -> None:
    with pytest.raises(MalformedError, match="expected a count"):
        parse_state(number, state)


def test_a_state_is_read_back() -> None:
    found = hash_records([b"x"], SCHEMA)
    assert parse_state(found.number, found.state) == found
