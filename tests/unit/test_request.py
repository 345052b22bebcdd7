"""The run request: one encoding, strictly read."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator.cbor import encode
from laminator.errors import MalformedError
from laminator.run.request import RunRequest, encode_request, parse_request

REQUEST = RunRequest(
    verb="run",
    argv=("/usr/bin/python3", "-u", "/srv/job/train.py", "--epochs", "3"),
    script=2,
    cwd="/srv/job",
    kind="training",
    card="/srv/job/train.card",
    inputs={"train": "/data/train.csv"},
    outputs={"model": "/srv/job/model.bin"},
    cards={"train": "/data/train.card"},
    nonce=bytes(16),
    plan="/srv/job/plan.toml",
    declares={"license": "MIT"},
    environment={"SEED": "7"},
    environment_public=True,
    network=True,
    key="rsa",
    ledger="/state/runs.jsonl",
    ticket="abc",
    options={"labels": "income", "list": (1, 2)},
)
BARE = RunRequest("run", ("/usr/bin/python3", "t.py"), 1, "/", "training", "/t.card")


@pytest.mark.parametrize("request_", [REQUEST, BARE])
def test_parse_is_the_inverse_of_encode(request_: RunRequest) -> None:
    assert parse_request(encode_request(request_)) == request_


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verb", "shell"),
        ("argv", ["/usr/bin/python3"]),
        ("argv", ["/usr/bin/python3", 1, "x"]),
        ("argv", "python"),
        ("script", 0),
        ("script", 5),
        ("script", True),
        ("cwd", "work"),
        ("cwd", "/srv/job\0"),
        ("kind", "anything"),
        ("card", "t.card"),
        ("inputs", {"a b": "/x"}),
        ("inputs", {"a": "x"}),
        ("inputs", {1: "/x"}),
        ("inputs", ["/x"]),
        ("nonce", b"short"),
        ("nonce", bytes(65)),
        ("nonce", "00"),
        ("plan", "plan"),
        ("declares", {"a": 1}),
        ("environment", {"A": 1}),
        ("environment", {"\x1b[31m": 1}),
        ("environment", {"A" * 5000: 1}),
        ("environment_public", 1),
        ("network", None),
        ("key", "ecc384"),
        ("ledger", "runs"),
        ("ticket", 1),
        ("options", [1]),
        ("options", {1: 1}),
    ],
)
def test_a_wrong_field_is_refused(field: str, value: Any) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_request(encode(REQUEST._asdict() | {field: value}))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_unknown_and_missing_fields_are_refused() -> None:
    plain: dict[Any, Any] = dict(REQUEST._asdict())
    for wrong in (plain | {"more": 1}, {k: v for k, v in plain.items() if k != "card"}, [1]):
        with pytest.raises(MalformedError) as caught:
            parse_request(encode(wrong))
        assert caught.value.code == "request.fields"


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(MalformedError):
        parse_request(encode_request(REQUEST) + b"\0")


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_request(data)


@given(st.integers(0, len(encode_request(REQUEST)) * 8 - 1))
def test_a_flipped_bit_is_refused_or_means_something_else(bit: int) -> None:
    data = bytearray(encode_request(REQUEST))
    data[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(MalformedError):
        assert parse_request(bytes(data)) != REQUEST
