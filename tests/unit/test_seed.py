"""Seeds that anybody can compute again, and what is drawn with them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator.errors import MalformedError
from laminator.seed import draw_rows, seed_bytes, shuffled, workload_seed

NONCE = bytes(range(16))


def test_a_seed_from_the_nonce_by_hand() -> None:
    encoded = b"\x82\x65nonce\x50" + NONCE
    expected = hashlib.sha256(b"laminator-seed-v1\x00" + encoded).digest()
    assert seed_bytes("nonce", NONCE) == expected


def test_a_seed_from_a_number_by_hand() -> None:
    encoded = b"\x82\x66number\x18\x2a"
    expected = hashlib.sha256(b"laminator-seed-v1\x00" + encoded).digest()
    assert seed_bytes(42, NONCE) == seed_bytes(42, None) == expected
    assert workload_seed(expected) == int(expected.hex()[:16], 16)


def test_a_seed_from_no_nonce() -> None:
    with pytest.raises(MalformedError) as caught:
        seed_bytes("nonce", None)
    assert caught.value.code == "seed.nonce"


def test_drawn_rows_by_hand() -> None:
    seed = seed_bytes(1, None)
    keys = {hashlib.sha256(seed + row.to_bytes(8, "big")).hexdigest(): row for row in range(100)}
    expected = sorted(keys[key] for key in sorted(keys)[:10])
    assert draw_rows(seed, 100, 10) == tuple(expected)


@given(st.integers(0, 2**53), st.integers(1, 60), st.data())
def test_a_draw_is_that_many_different_rows(number: int, rows: int, data: st.DataObject) -> None:
    sample = data.draw(st.integers(1, rows))
    drawn = draw_rows(seed_bytes(number, None), rows, sample)
    assert len(set(drawn)) == sample
    assert list(drawn) == sorted(drawn)
    assert set(drawn) <= set(range(rows))
    assert set(drawn) <= set(draw_rows(seed_bytes(number, None), rows, rows))


def test_another_seed_draws_other_rows() -> None:
    draws = {draw_rows(seed_bytes(number, None), 1000, 10) for number in range(20)}
    assert len(draws) == 20


@pytest.mark.parametrize("sample", [0, -1, 11])
def test_a_draw_that_cannot_be_made(sample: int) -> None:
    with pytest.raises(MalformedError) as caught:
        draw_rows(bytes(32), 10, sample)
    assert caught.value.code == "seed.sample"


def test_an_order_follows_seed_and_secret() -> None:
    one, other = seed_bytes(1, None), seed_bytes(2, None)
    order = shuffled(100, one, bytes(32))
    assert sorted(order) == list(range(100))
    assert shuffled(100, one, bytes(32)) == order
    assert len({order, shuffled(100, other, bytes(32)), shuffled(100, one, b"\1" * 32)}) == 3
    assert order[:10] != tuple(range(10))
