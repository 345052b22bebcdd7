"""What a card's endorsements, and those given beside it, add to what was found of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laminator.appraise.caveats import Appraised, unknown_endorsements
from laminator.appraise.check import Check, not_checked
from laminator.appraise.policy import Policy
from laminator.card import Card
from laminator.digest import Digest

if TYPE_CHECKING:
    from laminator.endorsement import Endorsement


def check_unknown(card: Card) -> tuple[Check, ...]:
    """`card.endorsements`: what of a card's endorsements nothing here understands."""
    count = unknown_endorsements(card)
    if not count:
        return ()
    detail = f"{count} endorsement(s), of kinds that are not understood"
    return (not_checked("card.endorsements", detail),)


def with_endorsed(
    appraised: Appraised, given: Sequence[bytes], policy: Policy, launch: Digest | None
) -> tuple[Appraised, tuple["Endorsement", ...]]:
    """Add the checks of endorsements of measurers, where the policy names endorsers.

    Returns the endorsements too that count for the card.
    """
    card = appraised.card
    if not policy.endorsers or not (given or card.endorsements):
        return appraised, ()
    from laminator.appraise.endorsement_rules import Subject, judge_endorsements
    from laminator.endorsements import endorsements_of

    subject = Subject(int(appraised.at.timestamp()), launch, card.claims.workload.entry.digest)
    messages = (*endorsements_of(card).measurers, *given)
    checks, counting = judge_endorsements(messages, policy, subject)
    return appraised._replace(checks=(*appraised.checks, *checks)), counting
