"""When a card existed at the latest: the earliest of its own tokens that proves a time.

A token that is wrong in any way counts for nothing and fails no card: what its checks found is
told as not-checked. Nothing here is imported for cards without a token.
"""

import datetime as dt
from collections.abc import Iterable
from typing import NamedTuple

from laminator.appraise.check import (
    FAIL,
    NOT_CHECKED,
    PASS,
    Check,
    failed,
    not_checked,
    passed,
)
from laminator.appraise.claim_rules import CLOCK_TOLERANCE
from laminator.appraise.policy import Policy
from laminator.appraise.result import AsOf, VerificationResult, When
from laminator.appraise.timestamps import TokenAppraisal, VerifiedTime, appraise_token
from laminator.appraise.trust import TrustStore
from laminator.card import Card, timestamp_message
from laminator.endorsements import endorsements_of
from laminator.errors import shown

MAX_TOKENS = 8
"""Distinct tokens of one card that are judged, in their order; more are passed over."""


class CardTime(NamedTuple):
    """What a card's tokens gave: checks, none of which failed, and the earliest verified time.

    A simulated authority's time stands there only where no other is verified.
    """

    checks: tuple[Check, ...] = ()
    verified: VerifiedTime | None = None


class Times:
    """The times of the cards of one call, each card's judged once.

    `used` holds the cards (by object) whose verdict as of their token rests on a token, their own
    or one of a card that they build on.
    """

    def __init__(self, trust: TrustStore, now: dt.datetime) -> None:
        self.used: set[int] = set()
        self._trust = trust
        self._now = now
        self._known: dict[int, CardTime] = {}

    def of(self, card: Card, policy: Policy) -> CardTime:
        """Return the time of `card`; every policy of one call accepts the same roots."""
        if id(card) not in self._known:
            self._known[id(card)] = appraise_card_time(card, policy, self._trust, self._now)
        return self._known[id(card)]

    def note_use(self, card: Card, parents: Iterable[Card]) -> None:
        """Note whether the verdict on `card` as of its token rests on one; `parents` are judged."""
        known = self._known.get(id(card), CardTime())
        if known.verified is not None or any(id(parent) in self.used for parent in parents):
            self.used.add(id(card))


def is_stamped(card: Card) -> bool:
    """Tell whether `card` carries something that says that it is a token for it."""
    return bool(endorsements_of(card).timestamps)


def appraise_card_time(card: Card, policy: Policy, trust: TrustStore, now: dt.datetime) -> CardTime:
    """Judge the tokens of `card` at the verifier's own time `now`."""
    replies = tuple(dict.fromkeys(endorsements_of(card).timestamps))
    if not replies:
        return CardTime()
    message = timestamp_message(card)
    tokens = [
        _with_card(appraise_token(reply, message, trust, now), card, policy)
        for reply in replies[:MAX_TOKENS]
    ]
    proven = [token.verified for token in tokens if token.verified is not None]
    if not proven:
        return CardTime(_unproven(tokens, len(replies)))
    # A simulated authority's owner makes any time: it never comes before another's word.
    earliest = min(proven, key=lambda verified: (verified.simulated, verified.time))
    checks = next(token.checks for token in tokens if token.verified == earliest)
    detail = f"it existed at {_text(earliest)}"
    return CardTime((passed("time.token", detail), *checks), earliest)


def both_verdicts(
    now: VerificationResult, then: VerificationResult, verified: VerifiedTime | None, decides: When
) -> VerificationResult:
    """Return the result that `decides`, with the verdicts at both times.

    `verified` is the judged card's own time, None where only cards that it builds on have one.
    """
    result, other = (now, then) if decides == "now" else (then, now)
    as_of = AsOf(
        decides=decides,
        now=now.verdict,
        then=then.verdict,
        time=None if verified is None else verified.time,
        authority=None if verified is None else verified.authority,
        anchor=None if verified is None else str(verified.anchor),
        simulated=verified is not None and verified.simulated,
        other_failures=tuple(dict.fromkeys(check.id for check in other.failures())),
    )
    return result._replace(as_of=as_of)


def check_declared(iat: int, time: dt.datetime) -> Check:
    """`time.declared`: the card does not say that it is younger than the token.

    A token from before the declared time proves that the declaring clock was wrong, and nothing
    else: the token gives no time then, and the card is judged as without it.
    """
    ahead = iat - int(time.timestamp())
    if ahead > CLOCK_TOLERANCE:
        return failed("time.declared", f"the card declares a time {ahead} s after its token's")
    return passed("time.declared", "the card does not declare a time after its token's")


def check_authority(verified: VerifiedTime, policy: Policy) -> Check:
    """`time.authority`: a simulated authority counts only where simulated roots do."""
    if verified.simulated and "simulated" not in policy.roots:
        detail = "the authority is simulated, and the policy accepts no simulated root"
        return failed("time.authority", detail)
    return passed("time.authority", f"a time-stamping authority: {shown(verified.authority)}")


def _with_card(token: TokenAppraisal, card: Card, policy: Policy) -> TokenAppraisal:
    """Return `token` with the checks that tie it to a card and to the policy."""
    if token.verified is None:
        return token
    more = (
        check_declared(card.claims.iat, token.verified.time),
        check_authority(token.verified, policy),
    )
    holds = all(check.verdict == PASS for check in more)
    return TokenAppraisal((*token.checks, *more), token.verified if holds else None)


def _unproven(tokens: Iterable[TokenAppraisal], count: int) -> tuple[Check, ...]:
    """Return what the token that got furthest lacks, with nothing that fails the card."""
    best = max(tokens, key=lambda token: sum(check.verdict == PASS for check in token.checks))
    checks = [
        check._replace(verdict=NOT_CHECKED) if check.verdict == FAIL else check
        for check in best.checks
    ]
    lacking = ", ".join(check.id for check in checks if check.verdict != PASS)
    return (not_checked("time.token", f"{count} token(s), none proves a time: {lacking}"), *checks)


def _text(verified: VerifiedTime) -> str:
    kind = "a simulated time-stamp" if verified.simulated else "a time-stamp"
    return f"{verified.time.isoformat()}, by {kind} of {shown(verified.authority)}"
