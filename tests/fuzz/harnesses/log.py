"""A run's log: records, the hash chain, and the log that claims expect."""

from harnesses.harness import Harness, golden_cards, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.card import parse_card
from laminator.eventlog import EMPTY_HEAD, Record, encode_log, extend, parse_log, replay

WORDS = ("counter", "start", "entry", "input", "property", "begin", "end", "output")


def check(data: bytes) -> bool:
    """What parses encodes to the same bytes; each record moves the head."""
    records = parsed(parse_log, data)
    if records is None:
        return False
    assert encode_log(records) == data
    head = EMPTY_HEAD
    heads = [head := extend(head, record) for record in records]
    assert len({EMPTY_HEAD, *heads}) == len(records) + 1
    assert replay(records) == head
    return True


def seeds() -> list[bytes]:
    """Return the empty log, one of odd names, and those of real runs."""
    odd = (Record("", "", bytes(32)), Record("a\nb", "\u202e", b"\xff" * 32))
    real = [parse_card(card).log for card in golden_cards()]
    return [encode_log(()), encode_log(odd), *map(encode_log, real)]


HARNESS = Harness(check, seeds, mutate_as_cbor, WORDS)
