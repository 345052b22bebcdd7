"""What may be added to a finished card: time-stamps, and the plan that its run followed.

None of it is covered by the card's id. An endorsement that is wrong, foreign or unreadable counts
for nothing; it never makes a card worse than without it.
"""

from typing import NamedTuple

from laminator.card import Card, ConceptualMessage

TIMESTAMP_MEDIA_TYPE = "application/timestamp-reply"
PLAN_MEDIA_TYPE = "application/vnd.laminator.plan+toml"
PLAN_TIMESTAMP_MEDIA_TYPE = "application/vnd.laminator.plan-timestamp-reply"
ENDORSEMENT_MEDIA_TYPE = "application/vnd.laminator.endorsement+cose"


class Endorsements(NamedTuple):
    """A card's endorsements by kind, unverified: the values, and how many are of other kinds.

    `timestamps` are RFC 3161 responses over the card, `plan_timestamps` over the plan, `measurers`
    are signed endorsements of measurers, or lists of those withdrawn.
    """

    timestamps: tuple[bytes, ...]
    plans: tuple[bytes, ...]
    plan_timestamps: tuple[bytes, ...]
    others: int
    measurers: tuple[bytes, ...] = ()


def endorsements_of(card: Card) -> Endorsements:
    """Return what is carried beside the claims of `card`."""
    plans = (PLAN_MEDIA_TYPE, PLAN_TIMESTAMP_MEDIA_TYPE)
    known = (TIMESTAMP_MEDIA_TYPE, *plans, ENDORSEMENT_MEDIA_TYPE)
    return Endorsements(
        timestamps=_values(card.endorsements, TIMESTAMP_MEDIA_TYPE),
        plans=_values(card.endorsements, PLAN_MEDIA_TYPE),
        plan_timestamps=_values(card.endorsements, PLAN_TIMESTAMP_MEDIA_TYPE),
        others=sum(message.media_type not in known for message in card.endorsements),
        measurers=_values(card.endorsements, ENDORSEMENT_MEDIA_TYPE),
    )


def _values(messages: tuple[ConceptualMessage, ...], media_type: str) -> tuple[bytes, ...]:
    return tuple(message.value for message in messages if message.media_type == media_type)
