"""COSE_Sign1 in its one encoding, and the payloads of endorsements."""

import itertools
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from laminator import cbor
from laminator.cose import (
    ALG,
    CONTENT_TYPE,
    KID,
    SIGN1_TAG,
    SPKI,
    algorithm_of,
    parse_sign1,
    spki_of,
    to_be_signed,
    verify_sign1,
)
from laminator.cose_signing import PrivateKey, sign1
from laminator.digest import sha256
from laminator.endorsement import (
    Endorsement,
    Revocations,
    encode_endorsement,
    encode_revocations,
    parse_endorsement,
    parse_revocations,
)
from laminator.errors import MalformedError, UsageError

P256 = ec.derive_private_key(11, ec.SECP256R1())
P384 = ec.derive_private_key(12, ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
KEYS = (P256, P384, ED25519)
ENDORSEMENT = Endorsement(b"\x01" * 16, ("accuracy", "f1"), "entry", sha256(b"x"), 10, 20)
REVOCATIONS = Revocations(10, 20, {b"\x01" * 16: "withdrawn", b"\x02" * 16: ""})


def remade(message: bytes, place: int, value: object) -> bytes:
    parts: list[Any] = list(cbor.decode(message[1:]))  # type: ignore[arg-type]
    parts[place] = value
    return SIGN1_TAG + cbor.encode(parts)


def with_header(key: PrivateKey, **changes: Any) -> bytes:
    spki = spki_of(key.public_key())
    header: Any = {ALG: -7, CONTENT_TYPE: "a/b", KID: sha256(spki).value, SPKI: spki}
    names = {"alg": ALG, "content_type": CONTENT_TYPE, "kid": KID, "spki": SPKI, "crit": 2}
    header.update({names[name]: value for name, value in changes.items()})
    header = {label: value for label, value in header.items() if value is not None}
    return remade(sign1(P256, "a/b", b"payload"), 0, cbor.encode(header))


@pytest.mark.parametrize("key", KEYS)
def test_what_is_signed_verifies_as_of_its_key_alone(key: PrivateKey) -> None:
    message = parse_sign1(sign1(key, "a/b", b"payload"))
    found = verify_sign1(message)
    assert found is not None
    assert found == (sha256(spki_of(key.public_key())), "a/b", b"payload")
    assert verify_sign1(message._replace(signed=message.signed + b"x")) is None
    assert verify_sign1(message._replace(signature=bytes(len(message.signature)))) is None


def test_the_header_is_what_is_signed() -> None:
    message = parse_sign1(sign1(P256, "a/b", b"payload"))
    other = parse_sign1(sign1(P256, "a/c", b"payload"))
    assert verify_sign1(message._replace(signed=other.signed)) is None
    assert to_be_signed(b"h", b"p") == cbor.encode(("Signature1", b"h", b"", b"p"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "cose.tag"),
        (sign1(P256, "a/b", b"")[1:], "cose.tag"),
        (SIGN1_TAG + sign1(P256, "a/b", b""), "cbor.type"),
        (SIGN1_TAG + cbor.encode((b"", {}, b"")), "field.type"),
        (remade(sign1(P256, "a/b", b""), 0, b""), "cose.protected"),
        (remade(sign1(P256, "a/b", b""), 1, {4: b"me"}), "cose.unprotected"),
        (remade(sign1(P256, "a/b", b""), 2, None), "field.type"),
        (remade(sign1(P256, "a/b", b""), 3, b"x" * 63), "cose.signature-size"),
        (remade(sign1(P256, "a/b", b""), 0, cbor.encode({})), "field.missing"),
        (with_header(P256, crit=(1,)), "field.unknown"),
        (with_header(P256, alg=-257), "field.type"),
        (with_header(P256, alg=True), "field.type"),
        (with_header(P256, kid=bytes(32)), "cose.kid"),
        (with_header(P256, content_type=None), "field.missing"),
    ],
    ids=itertools.count(),
)
def test_no_such_message(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_sign1(data)
    assert caught.value.code == code


def test_a_key_that_is_not_of_the_algorithm() -> None:
    for data, code in (
        (with_header(ED25519), "cose.algorithm"),
        (with_header(P384), "cose.algorithm"),
        (with_header(P256, spki=b"no key", kid=sha256(b"no key").value), "cose.key"),
    ):
        with pytest.raises(MalformedError) as caught:
            verify_sign1(parse_sign1(data))
        assert caught.value.code == code


def test_an_rsa_key_has_no_algorithm_here() -> None:
    assert algorithm_of(rsa.generate_private_key(65537, 2048).public_key()) is None


def test_a_key_in_another_encoding_has_no_second_digest() -> None:
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    point = P256.public_key().public_numbers()
    spki = compressed + bytes([2 + point.y % 2]) + point.x.to_bytes(32, "big")
    with pytest.raises(MalformedError) as caught:
        verify_sign1(parse_sign1(with_header(P256, spki=spki, kid=sha256(spki).value)))
    assert caught.value.code == "cose.key"


def test_a_key_on_another_curve_signs_nothing() -> None:
    with pytest.raises(UsageError):
        sign1(ec.derive_private_key(3, ec.SECP521R1()), "a/b", b"")


def test_payloads_are_read_back() -> None:
    assert parse_endorsement(encode_endorsement(ENDORSEMENT)) == ENDORSEMENT
    full = ENDORSEMENT._replace(measurer="m", note="n")
    assert parse_endorsement(encode_endorsement(full)) == full
    assert parse_revocations(encode_revocations(REVOCATIONS)) == REVOCATIONS


@pytest.mark.parametrize(
    "changes",
    [
        {"id": b"short"},
        {"measures": ()},
        {"measures": ("f1", "accuracy")},
        {"measures": ("f1", "f1")},
        {"kind": "file"},
        {"not_after": 9},
    ],
)
def test_no_such_endorsement(changes: Any) -> None:
    with pytest.raises(MalformedError):
        encode_endorsement(ENDORSEMENT._replace(**changes))


@pytest.mark.parametrize("changes", [{"reasons": {b"short": ""}}, {"next_update": 9}])
def test_no_such_revocations(changes: Any) -> None:
    with pytest.raises(MalformedError):
        encode_revocations(REVOCATIONS._replace(**changes))


def test_a_revocation_twice() -> None:
    plain: Any = cbor.decode(encode_revocations(REVOCATIONS))
    twice = cbor.encode({**plain, "revoked": (plain["revoked"][0],) * 2})
    with pytest.raises(MalformedError) as caught:
        parse_revocations(twice)
    assert caught.value.code == "endorsement.order"
