"""TOML of other people: bounded, and read into plain values only."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator.errors import MalformedError
from laminator.toml_border import MAX_BYTES, MAX_DEPTH, MAX_DOTS_IN_LINE, read_toml, same


def _code(data: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        read_toml(data, "root")
    return caught.value.code


def test_values_are_plain() -> None:
    found = read_toml(b'a = [1, 2.5, "x", true]\n[b]\nc = 1', "root")
    assert found == {"a": (1, 2.5, "x", True), "b": {"c": 1}}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"#" * (MAX_BYTES + 1), "toml.size"),
        (b"a" + b".a" * (MAX_DOTS_IN_LINE + 1) + b" = 1", "toml.size"),
        (b"a" + b".a" * (MAX_DEPTH + 1) + b" = 1", "toml.depth"),
        (b"a = " + b"[" * 20 + b"]" * 20, "toml.depth"),
        (b"a = " + b"[" * 100_000, "toml.syntax"),
        (b"a = 1\na = 2", "toml.syntax"),
        (b"\xff", "toml.syntax"),
        (b"a = " + b"9" * 5000, "toml.syntax"),
        (b"a = " + b"9" * 400, "toml.integer"),
        (b"a = 9223372036854775808", "toml.integer"),
        (b"a = 2026-01-01", "field.type"),
    ],
)
def test_what_is_too_much_has_a_name(data: bytes, code: str) -> None:
    assert _code(data) == code


@pytest.mark.parametrize("key", [r"\u001b[31m", r"a\nb", r"\u202e", "x" * 10_000])
def test_a_refusal_names_any_key_in_one_short_line(key: str) -> None:
    for data in (f'"{key}" = 2026-01-01', f'["{key}".b]\nc = 2026-01-01'):
        with pytest.raises(MalformedError) as caught:
            read_toml(data.encode(), "root")
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 500


def test_limits_can_be_reached() -> None:
    assert read_toml(b"#" * MAX_BYTES, "root") == {}
    assert read_toml(b"a = -9223372036854775808", "root") == {"a": -(2**63)}
    assert _code(b"a" + b".a" * MAX_DOTS_IN_LINE + b" = 1") == "toml.depth"
    assert read_toml(b"a" + b".a" * (MAX_DEPTH - 1) + b" = 1", "root")


@given(st.binary(max_size=200))
def test_wild_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(MalformedError):
        assert isinstance(read_toml(data, "root"), dict)


def test_a_truth_value_is_no_number() -> None:
    assert same(1, 1.0)
    assert same((1, "x"), (1, "x"))
    assert not same(True, 1)
    assert not same((True,), (1,))
    assert not same((1,), (1, 2))
    assert not same((1,), 1)
