"""Responses held against what was asked: refused with what to do next, or a stamp."""

import datetime as dt
import functools
import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
from timestamp_server import authority, reply_to

from laminator.errors import MalformedError
from laminator.timestamp.answer import check_answer, is_same_token
from laminator.timestamp.query import make_query, parse_query
from laminator.timestamp.refusal import TimestampRefusedError

MESSAGE = b"what is stamped"


@functools.cache
def _one_reply() -> bytes:
    return reply_to(make_query(MESSAGE, "sha256"))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes([tag, len(content)]) + content


def _refusing(status: int, *more: bytes) -> bytes:
    return _der(0x30, _der(0x30, _der(0x02, bytes([status])), *more))


def _refused(reply: bytes, message: bytes = MESSAGE, nonce: int | None = None) -> str:
    with pytest.raises(TimestampRefusedError) as refused:
        check_answer(reply, message, nonce)
    return refused.value.code


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA512"])
def test_a_fitting_answer_gives_its_stamp(algorithm: str) -> None:
    builder = TimestampRequestBuilder().data(MESSAGE).hash_algorithm(HashAlgorithm[algorithm])
    query = parse_query(builder.build().as_bytes())
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    reply = reply_to(query)
    stamp = check_answer(reply, MESSAGE, query.nonce)
    assert before <= stamp.time <= dt.datetime.now(dt.UTC)
    assert stamp.digest.value == hashlib.sha256(reply).digest()
    assert check_answer(reply, MESSAGE, None) == stamp


def test_an_answer_about_something_else_is_refused() -> None:
    query = make_query(MESSAGE, "sha256")
    assert _refused(reply_to(query), MESSAGE + b".", query.nonce) == "timestamp.imprint"


def test_an_answer_to_another_request_is_refused() -> None:
    first, second = (make_query(MESSAGE, "sha256") for _ in range(2))
    assert _refused(reply_to(first), MESSAGE, second.nonce) == "timestamp.nonce"


def test_an_answer_that_drops_the_nonce_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(MESSAGE)
    made = ["openssl", "ts", "-query", "-data", "data", "-sha256", "-cert", "-no_nonce"]
    der = subprocess.run(made, cwd=tmp_path, capture_output=True, check=True).stdout
    reply = authority().reply(der)
    assert check_answer(reply, MESSAGE, None).serial
    assert _refused(reply, MESSAGE, 1) == "timestamp.nonce"


def test_an_answer_without_the_signers_certificate_is_refused() -> None:
    query = TimestampRequestBuilder().data(MESSAGE).cert_request(cert_request=False).build()
    assert _refused(authority().reply(query.as_bytes())) == "timestamp.certificate"


def test_an_imprint_by_another_hash_is_refused() -> None:
    reply = reply_to(make_query(MESSAGE, "sha256"))
    sha256, sha224 = (b"\x04\x02" + last + b"\x05\x00\x04\x20" for last in (b"\x01", b"\x04"))
    changed = reply.replace(sha256, sha224)  # the OID's end, NULL, and the head of 32 octets
    assert changed != reply
    assert _refused(changed) == "timestamp.imprint"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "granted with modifications"),
        (2, "rejected"),
        (3, "waiting"),
        (4, "revocation warning"),
        (5, "revoked"),
        (9, "status 9"),
    ],
)
def test_no_token_is_refused_with_the_reason(status: int, words: str) -> None:
    with pytest.raises(TimestampRefusedError, match=words) as refused:
        check_answer(_refusing(status), MESSAGE, None)
    assert refused.value.code == "timestamp.status"


def test_the_authoritys_words_are_repeated_and_harmless() -> None:
    text = _der(0x30, _der(0x0C, b"no\x1b[2J"), _der(0x0C, b"\xff"))
    failure = _der(0x03, b"\x00", bytes([0b10000100, 0, 0b01000000]), b"\x00")
    with pytest.raises(TimestampRefusedError) as refused:
        check_answer(_refusing(2, text, failure), MESSAGE, None)
    message = refused.value.message
    assert r"'no\x1b[2J'" in message
    assert "unrecognised or unsupported hash; wrong data format; failure 17" not in message
    assert "unrecognised or unsupported hash; wrong data format; additional" in message


def test_an_authority_that_names_every_failure_is_cut_short() -> None:
    failure = _der(0x03, b"\x00", b"\xff" * 100)
    with pytest.raises(TimestampRefusedError) as refused:
        check_answer(_refusing(2, failure), MESSAGE, None)
    assert refused.value.message.count("failure ") == 24
    assert len(refused.value.message) < 700


def test_a_failure_of_no_name_has_its_number() -> None:
    with pytest.raises(TimestampRefusedError, match="failure 1"):
        check_answer(_refusing(2, _der(0x03, b"\x00\x40")), MESSAGE, None)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>",
        b"\x31\x00",
        b"\x30\x00",
        _refusing(2, _der(0x30, _der(0x04, b"no text"))),
        _refusing(2, _der(0x30, *[_der(0x0C, b"many texts")] * 9)),
        _der(0x30, _der(0x30, _der(0x04, b"\x00"))),
        _refusing(0),
    ],
)
def test_what_is_no_response_is_malformed(reply: bytes) -> None:
    with pytest.raises(MalformedError):
        check_answer(reply, MESSAGE, None)


@given(st.data())
def test_a_changed_response_is_a_stamp_or_refused_or_malformed(data: st.DataObject) -> None:
    reply = bytearray(_one_reply())
    for _ in range(data.draw(st.integers(1, 3))):
        reply[data.draw(st.integers(0, len(reply) - 1))] = data.draw(st.integers(0, 255))
    try:
        stamp = check_answer(bytes(reply), MESSAGE, None)
    except (MalformedError, TimestampRefusedError):
        return
    assert stamp.digest.value == hashlib.sha256(reply).digest()


def test_the_same_token_is_known_again_in_another_wrapping() -> None:
    query = make_query(MESSAGE, "sha256")
    reply, other = reply_to(query), reply_to(query)
    assert is_same_token(reply, reply)
    assert not is_same_token(reply, other)
    assert not is_same_token(reply, b"foreign")
    text = _der(0x30, _der(0x0C, b"granted"))
    body = _der(0x30, b"\x02\x01\x00", text) + reply[9:]
    assert reply[:2] == b"\x30\x82"
    assert reply[4:9] == b"\x30\x03\x02\x01\x00"
    wrapped = b"\x30\x82" + len(body).to_bytes(2) + body
    assert wrapped != reply
    assert is_same_token(reply, wrapped)
