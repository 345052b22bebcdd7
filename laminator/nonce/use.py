"""Verifying with a nonce that may be from the store: marked used before anything is printed."""

import datetime as dt
from collections.abc import Callable, Sequence

from laminator.appraise.nonce_rules import IssuedNonce
from laminator.appraise.result import VerificationResult
from laminator.digest import parse_digest

Judge = Callable[[IssuedNonce | None], Sequence[VerificationResult]]


def judge_with_nonce(nonce: bytes | None, judge: Judge) -> Sequence[VerificationResult]:
    """Return what `judge` says, with a nonce of the store marked as used by the accepted card.

    Where somebody else's mark comes first, `judge` is asked again, with that mark. Raises
    MachineError for a store that cannot be used.
    """
    if nonce is None:
        return judge(None)
    from laminator.nonce.store import default_store, find, mark_used

    store = default_store()
    entry = find(store, nonce)
    if entry is None:
        return judge(None)
    clock = dt.datetime.now(dt.UTC)
    issued = entry.seen_at(clock)
    results = judge(issued)
    accepted = {result.card for result in results if result.accepted and result.card}
    if not accepted:
        return results
    (card,) = map(parse_digest, accepted)
    if issued.used_by == card:
        return results
    holder = mark_used(store, nonce, card, clock)
    return results if holder == card else judge(issued._replace(used_by=holder))
