"""The files that travel: one encoding each, bounded, and nothing but our errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator import cbor
from laminator.enroll import exchange
from laminator.enroll.credential import Credential
from laminator.enroll.exchange import (
    EnrolmentChallenge,
    EnrolmentGrant,
    EnrolmentRequest,
    EnrolmentResponse,
    load_file,
)
from laminator.errors import MalformedError, UsageError

D = bytes(range(32))
VALUES: dict[str, Any] = {
    "request": EnrolmentRequest(b"ak", b"ek", (b"certificate", b"authority"), b"counter"),
    "challenge": EnrolmentChallenge(D, D, b"ak", "ecc-p256", Credential(b"blob", b"secret"), 9),
    "response": EnrolmentResponse(D, b"secret"),
    "grant": EnrolmentGrant((b"certificate", b"authority")),
}


def encode(kind: str) -> bytes:
    encoded: bytes = getattr(exchange, f"encode_{kind}")(VALUES[kind])
    return encoded


def parser(kind: str) -> Callable[[bytes], Any]:
    found: Callable[[bytes], Any] = getattr(exchange, f"parse_{kind}")
    return found


def changed(kind: str, **entries: Any) -> bytes:
    plain: Any = cbor.decode(encode(kind))
    plain.update({name.replace("_", "-"): value for name, value in entries.items()})
    return cbor.encode({name: value for name, value in plain.items() if value is not None})


def code(kind: str, data: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        parser(kind)(data)
    return caught.value.code


@pytest.mark.parametrize("kind", VALUES)
def test_a_file_says_what_was_written(kind: str) -> None:
    assert parser(kind)(encode(kind)) == VALUES[kind]


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("other", VALUES)
def test_a_file_of_another_kind_is_named(kind: str, other: str) -> None:
    if kind == other:
        return
    with pytest.raises(MalformedError, match=f"an enrolment {other}, not a {kind}") as caught:
        parser(kind)(encode(other))
    assert caught.value.code == "exchange.kind"


@pytest.mark.parametrize("kind", VALUES)
def test_fields_are_these_and_no_others(kind: str) -> None:
    fields = [name for name in cbor.decode(encode(kind))]  # type: ignore[union-attr]  # noqa: C416
    assert code(kind, changed(kind, more=1)) == "field.unknown"
    assert code(kind, encode(kind) + b"\x00") == "cbor.trailing"
    assert code(kind, changed(kind, profile="tag:other,2026:x")) == "exchange.kind"
    for name in fields:
        assert code(kind, changed(kind, **{str(name): None})) == "field.missing"
        assert code(kind, changed(kind, **{str(name): 1.5})) == "field.type"


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("request", {"ak": b""}),
        ("request", {"ek": bytes(2049)}),
        ("request", {"ek_certificates": []}),
        ("request", {"ek_certificates": [b"x"] * 10}),
        ("request", {"ek_certificates": [bytes(16 * 1024 + 1)]}),
        ("challenge", {"request": bytes(31)}),
        ("challenge", {"ek": "ecc-p521"}),
        ("challenge", {"blob": bytes(1025)}),
        ("challenge", {"expires": -1}),
        ("response", {"challenge": bytes(33)}),
        ("response", {"secret": b""}),
        ("response", {"secret": bytes(65)}),
        ("grant", {"certificates": [b""]}),
    ],
)
def test_sizes_are_bounded(kind: str, entries: dict[str, Any]) -> None:
    assert code(kind, changed(kind, **entries)) == "field.type"


@pytest.mark.parametrize("kind", VALUES)
def test_a_huge_file_is_not_decoded(kind: str) -> None:
    assert code(kind, bytes(exchange.MAX_FILE + 1)) == "cbor.size"


@given(st.sampled_from(sorted(VALUES)), st.binary(max_size=300))
def test_other_bytes_are_malformed(kind: str, data: bytes) -> None:
    with pytest.raises(MalformedError):
        parser(kind)(data)


@given(st.sampled_from(sorted(VALUES)), st.data())
def test_a_changed_byte_is_another_value_or_malformed(kind: str, data: st.DataObject) -> None:
    good = bytearray(encode(kind))
    position = data.draw(st.integers(0, len(good) - 1))
    good[position] ^= data.draw(st.integers(1, 255))
    try:
        assert parser(kind)(bytes(good)) != VALUES[kind]
    except MalformedError:
        return


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.request"
    path.write_bytes(encode("request"))
    data, request = load_file(str(path), exchange.parse_request)
    assert (data, request) == (encode("request"), VALUES["request"])
    path.write_bytes(bytes(exchange.MAX_FILE + 10))
    with pytest.raises(MalformedError):
        load_file(str(path), exchange.parse_request)
    with pytest.raises(UsageError, match="No such file"):
        load_file(str(tmp_path / "absent"), exchange.parse_request)
