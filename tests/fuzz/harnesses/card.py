"""A whole card: claims, log, evidence, endorsements, and how it is shown before it is verified."""

import json

from enclave_sim.adversary import forged_claims as samples
from harnesses.harness import Harness, golden_cards, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.card import ConceptualMessage, encode_card, parse_card, timestamp_message
from laminator.endorsements import (
    PLAN_MEDIA_TYPE,
    PLAN_TIMESTAMP_MEDIA_TYPE,
    TIMESTAMP_MEDIA_TYPE,
    endorsements_of,
)
from laminator.report.card_text import card_text
from laminator.report.export import card_to_json

WORDS = ("application/vnd.laminator.tpm+cbor", TIMESTAMP_MEDIA_TYPE, PLAN_MEDIA_TYPE)


def check(data: bytes) -> bool:
    """What parses encodes to the same bytes, and is shown without hidden characters."""
    card = parsed(parse_card, data)
    if card is None:
        return False
    assert encode_card(card) == data
    assert len(card.id) == 32
    found = endorsements_of(card)
    carried = (*found.timestamps, *found.plans, *found.plan_timestamps)
    assert len(carried) + found.others == len(card.endorsements)
    bare = card._replace(endorsements=())
    assert timestamp_message(bare) == timestamp_message(card)
    assert bare.id == card.id
    assert json.loads(json.dumps(card_to_json(card), allow_nan=False))
    assert all(line.isprintable() for line in card_text(card).split("\n"))
    return True


def seeds() -> list[bytes]:
    """Return a card with endorsements of every kind, and real ones."""
    kinds = (TIMESTAMP_MEDIA_TYPE, PLAN_MEDIA_TYPE, PLAN_TIMESTAMP_MEDIA_TYPE, "text/plain")
    endorsed = tuple(ConceptualMessage(kind, b"value") for kind in kinds)
    sample = samples.card()
    return [encode_card(sample._replace(endorsements=endorsed)), *golden_cards()]


HARNESS = Harness(check, seeds, mutate_as_cbor, WORDS)
