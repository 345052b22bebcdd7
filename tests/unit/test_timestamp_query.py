"""Requests for a token: made as RFC 3161 wants them, read back strictly."""

import functools
import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator.errors import MalformedError
from laminator.timestamp.query import HASHES, MAX_QUERY, Hash, make_query, parse_query

MESSAGE = b"what is stamped"


@pytest.mark.parametrize("algorithm", HASHES)
def test_a_request_is_over_its_message(algorithm: Hash) -> None:
    query = make_query(MESSAGE, algorithm)
    assert query.imprint == hashlib.new(algorithm, MESSAGE).digest()
    assert query.is_over(MESSAGE)
    assert not query.is_over(MESSAGE + b".")
    assert query.nonce is not None


def test_nonces_are_fresh() -> None:
    assert len({make_query(MESSAGE, "sha256").nonce for _ in range(8)}) == 8


def test_openssl_reads_the_request(tmp_path: Path) -> None:
    query = make_query(MESSAGE, "sha512")
    (tmp_path / "q").write_bytes(query.der)
    words = ["openssl", "ts", "-query", "-in", "q", "-text"]
    text = subprocess.run(words, cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    assert "Version: 1\nHash Algorithm: sha512\n" in text
    assert "\nCertificate required: yes\n" in text
    shown = re.search(r"^Nonce: 0x([0-9A-F]+)$", text, re.MULTILINE)
    assert shown
    assert int(shown[1], 16) == query.nonce


@pytest.mark.parametrize(
    ("words", "has_nonce"),
    [(("-no_nonce",), False), (("-cert",), True), (("-tspolicy", "1.2.3.4"), True)],
)
def test_openssls_requests_are_read(
    tmp_path: Path, words: tuple[str, ...], has_nonce: bool
) -> None:
    (tmp_path / "data").write_bytes(MESSAGE)
    made = ["openssl", "ts", "-query", "-data", "data", "-sha384", "-out", "q", *words]
    subprocess.run(made, cwd=tmp_path, capture_output=True, check=True)
    query = parse_query((tmp_path / "q").read_bytes())
    assert query.is_over(MESSAGE)
    assert (query.nonce is not None) == has_nonce


def test_a_hash_that_is_not_known_is_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(MESSAGE)
    made = ["openssl", "ts", "-query", "-data", "data", "-sha1", "-out", "q"]
    subprocess.run(made, cwd=tmp_path, capture_output=True, check=True)
    assert not parse_query((tmp_path / "q").read_bytes()).is_over(MESSAGE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x00",
        b"\x31\x00",
        bytes(MAX_QUERY + 1),
    ],
)
def test_what_is_no_request_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_query(data)


def test_more_or_less_than_a_request_is_malformed() -> None:
    der = make_query(MESSAGE, "sha256").der
    for changed in (der + b"\x00", der[:-1]):
        with pytest.raises(MalformedError):
            parse_query(changed)


@given(st.data())
def test_a_changed_octet_gives_another_request_or_an_error(data: st.DataObject) -> None:
    der = bytearray(_one_request())
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        query = parse_query(bytes(der))
    except MalformedError:
        return
    assert query.imprint in query.der


@functools.cache
def _one_request() -> bytes:
    """Return a request whose length does not hang on chance."""
    return next(
        der for der in iter(lambda: make_query(MESSAGE, "sha256").der, None) if len(der) == 69
    )
