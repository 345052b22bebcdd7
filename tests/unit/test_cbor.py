import math
import struct

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator import cbor
from laminator.errors import MalformedError

_scalars = (
    st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.booleans()
    | st.none()
)
_keys = st.text() | st.integers(-(2**64), 2**64 - 1)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.dictionaries(_keys, inner, max_size=4)
    ),
    max_leaves=20,
)


def _code(data: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        cbor.decode(data)
    return caught.value.code


@given(_values)
def test_decode_returns_what_was_encoded(value: cbor.Value) -> None:
    encoded = cbor.encode(value)
    assert cbor.decode(encoded) == value
    assert cbor.encode(cbor.decode(encoded)) == encoded


@given(_values)
def test_cbor2_reads_what_we_write(value: cbor.Value) -> None:
    assert cbor.encode(cbor2.loads(cbor.encode(value))) == cbor.encode(value)


@given(st.binary(max_size=200))
def test_bytes_are_one_deterministic_value_or_malformed(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except MalformedError:
        return
    assert cbor.encode(value) == data


@given(_values, st.data())
def test_a_changed_bit_never_reads_as_the_same_value(
    value: cbor.Value, data: st.DataObject
) -> None:
    encoded = bytearray(cbor.encode(value))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        changed = cbor.decode(bytes(encoded))
    except MalformedError:
        return
    assert cbor.encode(changed) != cbor.encode(value)


@pytest.mark.parametrize(
    ("hexadecimal", "code"),
    [
        ("", "cbor.length"),
        ("1801", "cbor.deterministic"),
        ("190001", "cbor.deterministic"),
        ("1a00000001", "cbor.deterministic"),
        ("1b0000000000000001", "cbor.deterministic"),
        ("5801aa", "cbor.deterministic"),
        ("9f01ff", "cbor.indefinite"),
        ("bf0101ff", "cbor.indefinite"),
        ("5f41aaff", "cbor.indefinite"),
        ("7f6161ff", "cbor.indefinite"),
        ("1c", "cbor.indefinite"),
        ("ff", "cbor.type"),
        ("a2616201616102", "cbor.deterministic"),
        ("a26161016161 02", "cbor.deterministic"),
        ("a26162616101616102", "cbor.trailing"),
        ("a262616101616102", "cbor.deterministic"),
        ("0102", "cbor.trailing"),
        ("c000", "cbor.type"),
        ("c249010000000000000000", "cbor.type"),
        ("f7", "cbor.type"),
        ("e0", "cbor.type"),
        ("f818", "cbor.type"),
        ("f97e01", "cbor.deterministic"),
        ("fa7fc00000", "cbor.deterministic"),
        ("fb7ff8000000000000", "cbor.deterministic"),
        ("fb3ff0000000000000", "cbor.deterministic"),
        ("fa3f800000", "cbor.deterministic"),
        ("62c328", "cbor.syntax"),
        ("63eda080", "cbor.syntax"),
        ("5b7fffffffffffffff00", "cbor.length"),
        ("9b7fffffffffffffff01", "cbor.length"),
        ("bb7fffffffffffffff01", "cbor.length"),
        ("9bffffffffffffffff", "cbor.length"),
        ("1b00", "cbor.length"),
        ("4401", "cbor.length"),
        ("a1f401", "cbor.key"),
        ("a1410101", "cbor.key"),
        ("a1f601", "cbor.key"),
        ("a1800100", "cbor.trailing"),
        ("a18001", "cbor.key"),
        ("a1a00100", "cbor.trailing"),
        ("a1a001", "cbor.key"),
    ],
)
def test_other_encodings_are_refused(hexadecimal: str, code: str) -> None:
    assert _code(bytes.fromhex(hexadecimal)) == code


def test_the_order_of_keys_is_bytewise_and_not_by_length() -> None:
    assert cbor.encode({"b": 1, "aa": 2, 10: 3, -1: 4}).hex() == "a40a03" + "2004" + "616201" + (
        "62616102"
    )


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0.0, "f90000"),
        (-0.0, "f98000"),
        (1.5, "f93e00"),
        (65504.0, "f97bff"),
        (65505.0, "fa477fe100"),
        (100000.0, "fa47c35000"),
        (3.4028234663852886e38, "fa7f7fffff"),
        (1.1, "fb3ff199999999999a"),
        (1.0e300, "fb7e37e43c8800759c"),
        (math.inf, "f97c00"),
        (-math.inf, "f9fc00"),
        (math.nan, "f97e00"),
        (2.0**-24, "f90001"),
        (2.0**-149, "fa00000001"),
    ],
)
def test_floats_take_the_shortest_form(value: float, encoded: str) -> None:
    assert cbor.encode(value).hex() == encoded
    assert struct.pack(">d", cbor.decode(bytes.fromhex(encoded))) == struct.pack(">d", value)


@pytest.mark.parametrize("container", [lambda inner: (inner,), lambda inner: {"k": inner}])
def test_depth_is_bounded_alike_both_ways(container: object) -> None:
    assert callable(container)
    value: cbor.Value = ()
    for _ in range(cbor.MAX_DEPTH - 1):
        value = container(value)
    assert cbor.decode(cbor.encode(value)) == value
    with pytest.raises(MalformedError) as caught:
        cbor.encode(container(value))
    assert caught.value.code == "cbor.depth"
    assert _code(b"\x81" * cbor.MAX_DEPTH + b"\x80") == "cbor.depth"
    assert _code(b"\x81" * 5_000_000) == "cbor.depth"


def test_the_number_of_items_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cbor, "MAX_ITEMS", 10)
    assert cbor.decode(cbor.encode((0,) * 9)) == (0,) * 9
    assert _code(cbor.encode((0,) * 10)) == "cbor.items"


def test_the_size_is_bounded() -> None:
    with pytest.raises(MalformedError) as caught:
        cbor.decode(b"\x00" * 11, max_bytes=10)
    assert caught.value.code == "cbor.size"
    with pytest.raises(MalformedError) as caught:
        cbor.split_sequence(b"\x00" * 11, max_bytes=10)
    assert caught.value.code == "cbor.size"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (2**64, "cbor.integer"),
        (-(2**64) - 1, "cbor.integer"),
        ({1, 2}, "cbor.type"),
        (object(), "cbor.type"),
        ({b"k": 1}, "cbor.key"),
        ({True: 1}, "cbor.key"),
        ("\ud800", "cbor.text"),
    ],
)
def test_what_the_format_does_not_have_is_not_encoded(value: object, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        cbor.encode(value)  # type: ignore[arg-type]
    assert caught.value.code == code


@given(st.lists(_values, max_size=5))
def test_a_sequence_splits_into_its_items(values: list[cbor.Value]) -> None:
    encoded = [cbor.encode(value) for value in values]
    assert list(cbor.split_sequence(b"".join(encoded))) == encoded


def test_a_cut_sequence_is_refused() -> None:
    with pytest.raises(MalformedError):
        cbor.split_sequence(cbor.encode("whole") + cbor.encode("cut")[:-1])
