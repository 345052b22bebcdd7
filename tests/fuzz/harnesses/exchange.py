"""The files of an enrolment: request, challenge, response, grant; and what they hold."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from harnesses.harness import Harness, golden_cards, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.card import parse_card
from laminator.enroll import exchange
from laminator.enroll.authority import check_counter
from laminator.enroll.credential import Credential
from laminator.enroll.ek_certificate import certificate_key, parse_certificate
from laminator.enroll.exchange import (
    EnrolmentChallenge,
    EnrolmentGrant,
    EnrolmentRequest,
    EnrolmentResponse,
)
from laminator.enroll.request import split_certificates
from laminator.enroll.response import check_grant
from laminator.errors import LaminatorError
from laminator.evidence import tpm_structures as structures
from laminator.evidence.tpm import parse_tpm_evidence
from laminator.evidence.tpm_key import public_key, spki
from laminator.evidence.tpm_structures import parse_public

NOW = dt.datetime(2026, 11, 25, 0, 5, 22, tzinfo=dt.UTC)
WORDS = ("tag:laminator,2026:ak-request-v1", "ecc-p256", "rsa-2048", "ek-certificates", "blob")
_PAIRS: tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes]], ...] = (
    (exchange.parse_request, exchange.encode_request),
    (exchange.parse_challenge, exchange.encode_challenge),
    (exchange.parse_response, exchange.encode_response),
    (exchange.parse_grant, exchange.encode_grant),
)


def check(data: bytes) -> bool:
    """A file is of one kind at most and encodes to the same bytes; what it holds is judged."""
    split = split_certificates(data)
    assert data.startswith(b"".join(split))
    found = [(parsed(parse, data), encode) for parse, encode in _PAIRS]
    taken = [(value, encode) for value, encode in found if value is not None]
    assert len(taken) <= 1
    for value, encode in taken:
        assert encode(value) == data
        _use(value)
    return bool(taken)


def seeds() -> list[bytes]:
    """Return one file of each kind with real structures."""
    evidence = parse_tpm_evidence(parse_card(golden_cards()[1]).evidence[0].value)
    ak = structures.marshal_public(evidence.ak)
    counter = structures.marshal_nv_public(evidence.nv_public)
    certificates = evidence.certificates
    digest = bytes(range(32))
    credential = Credential(b"\x00\x20" + bytes(66), b"\x00\x20" + bytes(64))
    return [
        exchange.encode_request(EnrolmentRequest(ak, ak, certificates, counter)),
        exchange.encode_challenge(
            EnrolmentChallenge(digest, digest, ak, "ecc-p256", credential, 1_800_000_000)
        ),
        exchange.encode_response(EnrolmentResponse(digest, b"secret" * 5)),
        exchange.encode_grant(EnrolmentGrant(certificates)),
    ]


def _use(value: object) -> None:
    match value:
        case EnrolmentRequest():
            parsed(check_counter, value.counter, LaminatorError)
            for area in (value.ak, value.ek):
                parsed(lambda given: public_key(parse_public(given)), area)
            for der in value.ek_certificates:
                parsed(lambda given: certificate_key(parse_certificate(given)), der)
        case EnrolmentGrant():
            parsed(lambda _: check_grant(value, _key(), NOW), b"", LaminatorError)


def _key() -> bytes:
    return spki(parse_tpm_evidence(parse_card(golden_cards()[1]).evidence[0].value).ak)


HARNESS = Harness(check, seeds, mutate_as_cbor, WORDS)
