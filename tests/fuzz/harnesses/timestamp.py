"""RFC 3161 requests and responses: the strict DER reader, and a token's whole appraisal."""

import hashlib
from functools import cache

import tsa_pki

from enclave_sim.adversary import forged_pki as pki
from harnesses.der_mutation import mutate_as_der
from harnesses.harness import Harness, parsed
from laminator.appraise.timestamps import appraise_token
from laminator.appraise.trust import TrustStore
from laminator.errors import LaminatorError
from laminator.evidence.timestamp_reply import OID_SHA256, TimestampReply, parse_timestamp_reply
from laminator.timestamp.answer import check_answer
from laminator.timestamp.query import parse_query

MESSAGE = b"message"
MAX_DETAIL = 2000


def check(data: bytes) -> bool:
    """There are checks, whatever comes; a time rests on what the authority signed, and no more."""
    reply = parsed(parse_timestamp_reply, data)
    found = appraise_token(data, MESSAGE, _trust(), pki.NOW)
    assert found.checks[0].id == "time.parse"
    assert reply is not None or found.checks[0].verdict == "fail"
    assert all(len(each.detail) < MAX_DETAIL for each in found.checks)
    assert all(each.detail.isprintable() for each in found.checks)
    if found.verified is not None:
        assert reply is not None
        signed = (reply.content, reply.signer.attributes)
        assert signed in [(real.content, real.signer.attributes) for real in _real()]
    query = parsed(parse_query, data)
    assert query is None or query.der == data
    stamp = parsed(lambda given: check_answer(given, MESSAGE, None), data, LaminatorError)
    assert stamp is None or reply is not None
    parsed(lambda given: check_answer(given, MESSAGE, 99), data, LaminatorError)
    return found.verified is not None or query is not None


@cache
def seeds() -> list[bytes]:
    """Return a request, and responses of both kinds of signer with all that may be there."""
    signers = [tsa_pki.authority("fuzz", kind) for kind in ("p256", "rsa2048")]
    return [_query(), *(reply for signer in signers for reply in _replies_of(signer))]


@cache
def _trust() -> TrustStore:
    return tsa_pki.authority("fuzz", "p256").trust()


@cache
def _real() -> list[TimestampReply]:
    return list(map(parse_timestamp_reply, seeds()[1:]))


def _query() -> bytes:
    imprint = tsa_pki.octets(hashlib.sha256(MESSAGE).digest())
    hashed = tsa_pki.sequence(tsa_pki.algorithm(OID_SHA256), imprint)
    return tsa_pki.sequence(tsa_pki.integer(1), hashed, tsa_pki.integer(99))


def _replies_of(authority: tsa_pki.Tsa) -> list[bytes]:
    signer = authority.signer.certificate
    accuracy = tsa_pki.sequence(
        tsa_pki.integer(1), tsa_pki.tlv(0x80, b"\x05"), tsa_pki.tlv(0x81, b"\x06")
    )
    tail = tsa_pki.tlv(0x01, b"\xff") + tsa_pki.integer(99)
    both = (tsa_pki.ess_v1(signer), tsa_pki.ess_v2(signer, "sha384"))
    return [
        tsa_pki.reply(authority, MESSAGE),
        tsa_pki.reply(authority, MESSAGE, accuracy=accuracy, tail=tail, ess=both),
        tsa_pki.reply(authority, MESSAGE, imprint_hash="sha512", digest_hash="sha384"),
    ]


HARNESS = Harness(check, seeds, mutate_as_der)
