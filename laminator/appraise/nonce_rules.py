"""A nonce that the verifier issued is for one card, and only for a while.

The library keeps no state: what the verifier's records say of a nonce is an argument. `laminator
verify` keeps them (laminator/nonce/store.py) and marks a nonce used once a card is accepted.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from laminator.appraise.check import Check, failed, not_applicable, passed
from laminator.card import Card
from laminator.digest import Digest
from laminator.errors import UsageError

_UNTRACKED = "no record of issuing this nonce was given: whether it was used before is not tracked"


class IssuedNonce(NamedTuple):
    """What the verifier's records say of a nonce that it issued.

    `expires`: when it stops being good for a card that is not accepted by then. `clock`: the
    verifier's real clock, aware; not the time at which it chooses to judge, since a prover who
    took too long would pass at an earlier one. `used_by`: the id of the card that was accepted
    with it, if any. `issued`: when it was made, where that is known; a plan that is not
    time-stamped before may have been made to suit it.
    """

    expires: dt.datetime
    clock: dt.datetime
    used_by: Digest | None = None
    issued: dt.datetime | None = None


class Challenge(NamedTuple):
    """What the verifier recorded of its nonce, and the ids of the judged cards that hold it."""

    issued: IssuedNonce | None
    holders: Collection[bytes]


def challenge(
    judged: Iterable[Card], nonce: bytes | None, issued: IssuedNonce | None
) -> Challenge | None:
    """Return what decides about `nonce` for the judged cards, None where there is no nonce.

    Raises UsageError for `issued` without a nonce, or with a time that has no zone.
    """
    if issued is not None and any(time.tzinfo is None for time in _times(issued)):
        raise UsageError("verify.issued", "`issued` needs times with a time zone")
    if nonce is not None:
        return Challenge(issued, {card.id for card in judged if card.claims.nonce == nonce})
    if issued is not None:
        raise UsageError("verify.issued", "`issued` is about a nonce, and no nonce is given")
    return None


def _times(issued: IssuedNonce) -> Iterator[dt.datetime]:
    yield issued.expires
    yield issued.clock
    if issued.issued is not None:
        yield issued.issued


def check_issued(card: bytes, challenge: Challenge | None) -> Iterator[Check]:
    """Yield `nonce.expiry` and `nonce.use` for the card of id `card`, where there is a nonce."""
    if challenge is None:
        return
    issued = challenge.issued
    if issued is None:
        yield not_applicable("nonce.expiry", "no record of issuing this nonce was given")
        yield not_applicable("nonce.use", _UNTRACKED)
    else:
        yield check_expiry(card, issued)
        yield check_use(card, issued, challenge.holders)


def check_expiry(card: bytes, issued: IssuedNonce) -> Check:
    """`nonce.expiry`: the nonce is not expired at the verifier's real clock.

    A card that was accepted with it before stays acceptable: it came in time.
    """
    if issued.used_by == Digest("sha-256", card):
        return passed("nonce.expiry", "this card was accepted with the nonce before")
    expires, clock = (time.isoformat(timespec="seconds") for time in issued[:2])
    detail = f"the nonce expires at {expires}, the verifier's clock says {clock}"
    return (passed if issued.clock < issued.expires else failed)("nonce.expiry", detail)


def check_use(card: bytes, issued: IssuedNonce, holders: Collection[bytes]) -> Check:
    """`nonce.use`: no other card has the nonce, neither before nor beside this one."""
    own = Digest("sha-256", card)
    if issued.used_by not in (None, own):
        return failed("nonce.use", f"the nonce is for one card, and {issued.used_by} used it")
    others = len({*holders} - {card})
    if others:
        detail = f"the nonce is for one card, and {others} other(s) given here hold it too"
        return failed("nonce.use", detail)
    return passed("nonce.use", "no other card has used the nonce")
