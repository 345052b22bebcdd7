"""Cards in files: one in a `.card`, several in a `.cards` bundle (a CBOR sequence)."""

from typing import NamedTuple

from laminator.card import MAX_CARD
from laminator.cbor import split_sequence
from laminator.errors import MalformedError
from laminator.reading import read_bounded

BUNDLE_SUFFIX = ".cards"
MAX_BUNDLE = 4 * MAX_CARD
MAX_BUNDLE_CARDS = 4096


class CardFile(NamedTuple):
    """The bytes of one card, and what to call it: its file, with its place in a bundle."""

    name: str
    data: bytes


def read_cards(path: str) -> list[CardFile]:
    """Read the cards of a file, unparsed. Raises UsageError for a file that cannot be read.

    A bundle that is no CBOR sequence, or one of too many cards, comes back as one card, which will
    not parse either.
    """
    limit = MAX_BUNDLE if path.endswith(BUNDLE_SUFFIX) else MAX_CARD
    data = read_bounded(path, limit, "a card's file")
    if not path.endswith(BUNDLE_SUFFIX):
        return [CardFile(path, data)]
    try:
        cards = split_sequence(data, max_bytes=MAX_BUNDLE, max_items=MAX_BUNDLE_CARDS)
    except MalformedError:
        cards = (data,)
    return [CardFile(f"{path}[{place}]", card) for place, card in enumerate(cards)] or [
        CardFile(path, data)
    ]
