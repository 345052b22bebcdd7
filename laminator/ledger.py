"""The ledger of runs as it travels: cards and failure records of an interval of run numbers.

`docs/card.cddl` describes the encoding. Nothing in it is believed before
`laminator.appraise.ledger` has judged it: interval and entries are the sender's.
"""

from collections.abc import Sequence
from typing import NamedTuple

from laminator import cbor
from laminator.card import MAX_CARD, Card, parse_card
from laminator.claims import PROFILE
from laminator.failure import FAILURE_PROFILE, FailureRecord, parse_failure
from laminator.fields import Fields, array, choice, octets, uint

LEDGER_PROFILE = "tag:laminator,2026:ledger-v1"
LEDGER_SUFFIX = ".ledger"
MAX_LEDGER = cbor.MAX_BYTES
MAX_NUMBERS = 10_000
"""Most numbers of one ledger, and most entries."""

Entry = Card | FailureRecord


class Ledger(NamedTuple):
    """A parsed, unverified ledger: numbers `first` to `last`, both included, entries unparsed."""

    first: int
    last: int
    entries: tuple[bytes, ...]


def parse_ledger(data: bytes) -> Ledger:
    """Parse the one encoding of a ledger; its entries stay bytes. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_LEDGER), "ledger")
    fields.take("profile", choice(LEDGER_PROFILE))
    ledger = Ledger(
        first=fields.take("from", uint),
        last=fields.take("to", uint),
        entries=fields.take("entries", array(octets(1, MAX_CARD), most=MAX_NUMBERS)),
    )
    fields.close()
    return ledger


def encode_ledger(first: int, last: int, entries: Sequence[bytes]) -> bytes:
    """Return the ledger's one encoding. Raises MalformedError where it could not be read back."""
    encoded = cbor.encode(
        {"profile": LEDGER_PROFILE, "from": first, "to": last, "entries": tuple(entries)}
    )
    parse_ledger(encoded)
    return encoded


def is_failure(entry: bytes) -> bool:
    """Tell by its profile whether `entry` is a failure record, and not a card.

    Raises MalformedError for bytes that are neither.
    """
    fields = Fields(cbor.decode(entry, max_bytes=MAX_CARD), "entry")
    return fields.take("profile", choice(PROFILE, FAILURE_PROFILE)) == FAILURE_PROFILE


def parse_entry(data: bytes) -> Entry:
    """Parse a card or a failure record. Raises MalformedError."""
    return parse_failure(data) if is_failure(data) else parse_card(data)
