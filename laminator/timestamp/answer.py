"""What an authority answered (TimeStampResp, RFC 3161, 2.4.2), held against what was asked.

Whether the authority is one to believe is the verifier's business, and `laminator verify` checks
it: here is only what would make the token useless whoever its judge is.
"""

import datetime as dt
from collections.abc import Iterator
from typing import NamedTuple

from laminator.digest import Digest, sha256
from laminator.errors import MalformedError, shown
from laminator.evidence.der import (
    BIT_STRING,
    GENERALIZED_TIME,
    INTEGER,
    SEQUENCE,
    UTF8_STRING,
    DerFields,
    Element,
    elements,
    integer,
    malformed,
    parse_element,
)
from laminator.evidence.timestamp_reply import TimestampReply, parse_timestamp_reply
from laminator.timestamp.query import HASH_OIDS, imprint_of
from laminator.timestamp.refusal import TimestampRefusedError

_GRANTED = 0
_STATUS = {
    1: "granted with modifications",
    2: "rejected",
    3: "waiting",
    4: "revocation warning",
    5: "revoked",
}
# PKIFailureInfo: bit numbers (RFC 3161, 2.4.2).
_FAILURES = {
    0: "unrecognised or unsupported hash",
    2: "transaction not permitted",
    5: "wrong data format",
    14: "time source not available",
    15: "policy not supported",
    16: "extension not supported",
    17: "additional information not available",
    25: "system failure",
}
_MOST_TEXTS = 8
_FAILURE_BYTES = 4
_ANOTHER = "ask again, or another authority"


class Stamp(NamedTuple):
    """What a token says, unverified: its time, number and policy; `digest` is the response's."""

    time: dt.datetime
    serial: int
    policy: str
    digest: Digest


def check_answer(reply: bytes, message: bytes, nonce: int | None) -> Stamp:
    """Return the stamp of a response that is over `message` and answers `nonce`, if there is one.

    Raises TimestampRefusedError for one that refuses or is about something else, MalformedError.
    """
    _check_granted(reply)
    parsed = parse_timestamp_reply(reply)
    _check_imprint(parsed, message)
    if nonce is not None and token_nonce(parsed) != nonce:
        detail = f"the response does not repeat the request's nonce: it answers another; {_ANOTHER}"
        raise TimestampRefusedError("timestamp.nonce", detail)
    if not parsed.certificates:
        detail = "the token comes without its signer's certificate, which verifiers need: "
        detail += "ask with certReq (openssl ts -query -cert, laminator timestamp request)"
        raise TimestampRefusedError("timestamp.certificate", detail)
    info = parsed.info
    return Stamp(info.time, info.serial, info.policy, sha256(reply))


def token_nonce(reply: TimestampReply) -> int | None:
    """Return the nonce in a token: the number after genTime. Raises MalformedError."""
    parts = elements(parse_element(reply.content, "tst-info").content, "tst-info")
    place = next(n for n, part in enumerate(parts) if part.tag == GENERALIZED_TIME)
    numbers = [part for part in parts[place:] if part.tag == INTEGER]
    return integer(numbers[0], "tst-info.nonce") if numbers else None


def _check_imprint(reply: TimestampReply, message: bytes) -> None:
    if reply.info.hash not in HASH_OIDS:
        detail = f"the imprint is by the hash {shown(reply.info.hash)}; ask with SHA-256 or SHA-512"
        raise TimestampRefusedError("timestamp.imprint", detail)
    if imprint_of(message, reply.info.hash) != reply.info.imprint:
        detail = "the token is over something else: another file, or one that was changed since; "
        detail += "make a new request from it: laminator timestamp request"
        raise TimestampRefusedError("timestamp.imprint", detail)


def _check_granted(reply: bytes) -> None:
    """Raise TimestampRefusedError with the authority's own words where it grants no token."""
    element = parse_element(reply, "response")
    if element.tag != SEQUENCE:
        raise malformed("response", "a sequence", f"tag {element.tag:#04x}")
    status = DerFields(DerFields(element, "response").take(SEQUENCE, "status"), "response.status")
    number = integer(status.take(INTEGER, "status"), "response.status")
    text = status.optional(SEQUENCE, "text")
    failure = status.optional(BIT_STRING, "failure")
    if number == _GRANTED:
        return
    words = [*_failures(failure), *_texts(text)]
    reasons = f" ({'; '.join(words)})" if words else ""
    name = _STATUS.get(number, f"status {number}")
    detail = f"the authority granted no token: {name}{reasons}; {_ANOTHER}"
    raise TimestampRefusedError("timestamp.status", detail)


def _texts(text: Element | None) -> Iterator[str]:
    if text is None:
        return
    for part in elements(text.content, "response.status.text", most=_MOST_TEXTS):
        if part.tag != UTF8_STRING:
            raise malformed("response.status.text", "UTF-8 strings", f"tag {part.tag:#04x}")
        yield shown(part.content.decode(errors="replace"))


def _failures(failure: Element | None) -> Iterator[str]:
    if failure is None:
        return
    bits = "".join(f"{octet:08b}" for octet in failure.content[1 : 1 + _FAILURE_BYTES])
    for number, bit in enumerate(bits):
        if bit == "1":
            yield _FAILURES.get(number, f"failure {number}")


def is_same_token(reply: bytes, other: bytes) -> bool:
    """Say whether two responses hold the same token; `other` may be anything."""
    try:
        return parse_timestamp_reply(other).content == parse_timestamp_reply(reply).content
    except MalformedError:
        return False
