"""The property card: claims, the run's log, and the evidence that binds them.

`docs/card.cddl` describes the encoding. A card that was parsed is not a card that was verified.
"""

import hashlib
from typing import NamedTuple

from laminator import cbor
from laminator.cbor import Encodable, Value
from laminator.claims import PROFILE, Claims
from laminator.claims_codec import parse_claims
from laminator.errors import MalformedError
from laminator.eventlog import Record, encode_log, parse_log
from laminator.fields import Fields, array, choice, malformed, octets, text

MAX_CARD = cbor.MAX_BYTES
MAX_EVIDENCE = 16
MAX_ENDORSEMENTS = 256

_BINDING_DOMAIN = b"laminator-card-v1\x00"
_TIMESTAMP_DOMAIN = b"laminator-timestamp-v1\x00"


class ConceptualMessage(NamedTuple):
    """A RATS conceptual message wrapper (draft-ietf-rats-msg-wrap): media type and value."""

    media_type: str
    value: bytes


class Card(NamedTuple):
    """A parsed, unverified card. `claims_bytes` are what the evidence has to cover."""

    claims_bytes: bytes
    claims: Claims
    log: tuple[Record, ...]
    evidence: tuple[ConceptualMessage, ...]
    endorsements: tuple[ConceptualMessage, ...] = ()

    @property
    def id(self) -> bytes:
        """The card's id: its binding."""
        return binding(self.claims_bytes)


def binding(claims_bytes: bytes) -> bytes:
    """Return SHA-256("laminator-card-v1" || 00 || claims): what the evidence signs, 32 bytes."""
    return hashlib.sha256(_BINDING_DOMAIN + claims_bytes).digest()


def timestamp_message(card: Card) -> bytes:
    """Return what an RFC 3161 token for `card` is over: its claims and all of its evidence."""
    return _TIMESTAMP_DOMAIN + cbor.encode((card.claims_bytes, card.evidence))


def parse_card(data: bytes) -> Card:
    """Parse the one encoding of a card. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_CARD), "card")
    fields.take("profile", choice(PROFILE))
    claims_bytes = fields.take("claims", octets(1, MAX_CARD))
    log_bytes = fields.take("log", octets(1, MAX_CARD))
    evidence = fields.take("evidence", array(parse_message, least=1, most=MAX_EVIDENCE))
    endorsements = fields.optional("endorsements", array(parse_message, most=MAX_ENDORSEMENTS))
    fields.close()
    if endorsements == ():
        raise malformed("card.endorsements", "at least one, or no such field", endorsements)
    claims, log = parse_claims(claims_bytes), parse_log(log_bytes)
    return Card(claims_bytes, claims, log, evidence, endorsements or ())


def encode_card(card: Card) -> bytes:
    """Return the one encoding of `card`. Raises MalformedError where it could not be read back."""
    plain: dict[str, Encodable] = {
        "profile": PROFILE,
        "claims": card.claims_bytes,
        "log": encode_log(card.log),
        "evidence": card.evidence,
    }
    if card.endorsements:
        plain["endorsements"] = card.endorsements
    encoded = cbor.encode(plain)
    if parse_card(encoded) != card:
        raise MalformedError("card.claims", "the claims are not those of their bytes")
    return encoded


def parse_message(value: Value, path: str) -> ConceptualMessage:
    """Parse one conceptual message wrapper. Raises MalformedError."""
    match value:
        case (media_type, message):
            media = text(media_type, f"{path}.media-type")
            return ConceptualMessage(media, octets(1, MAX_CARD)(message, f"{path}.value"))
        case _:
            raise malformed(path, "[media type, value]", value)
