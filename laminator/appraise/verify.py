"""Verifying cards: bytes in, a result out, with everything that decides it as an argument."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict, Unpack

from laminator.appraise.artifacts import check_artifacts
from laminator.appraise.caveats import Appraised, caveats, inherited
from laminator.appraise.chosen import chosen_by
from laminator.appraise.claim_rules import REQUIRED, check_claims, check_log
from laminator.appraise.evidence import Findings, Setting, appraise_evidence
from laminator.appraise.lineage import Given as GivenCards
from laminator.appraise.lineage import check_given, check_lineage, index_cards
from laminator.appraise.nonce_rules import Challenge, IssuedNonce, challenge, check_issued
from laminator.appraise.policy import BUILT_IN, Policy
from laminator.appraise.result import (
    Check,
    Statement,
    Trust,
    VerificationResult,
    failed,
    missing_checks,
    not_checked,
    passed,
    verdict_of,
)
from laminator.appraise.rules import Findings as RuleFindings
from laminator.appraise.rules import check_policy
from laminator.appraise.trust import TrustStore
from laminator.card import Card, parse_card
from laminator.claims import Claims, Property
from laminator.digest import Digest
from laminator.endorsements import endorsements_of
from laminator.errors import MalformedError, UsageError

if TYPE_CHECKING:
    from laminator.appraise.plan_rules import PlanQuestion

_RESTS_ON = {
    "reported": "the measured workload's own word",
    "declared": "the word of the person who typed it",
    "external": "somebody else's word, with no signature checked",
}


class Given(TypedDict):
    """What a verifier gives besides card and policy.

    `trust`: its anchors and CRLs. `now`: the aware time at which it judges. `nonce`: its own, 8
    to 64 bytes. `issued`: what it recorded of that nonce, if it issued it. `artifacts`: digests of
    files and folders that it holds, by the card's names. `plan`: the plan that the cards have to
    follow. `other_cards`: cards that the judged one may refer to.
    """

    trust: TrustStore
    now: dt.datetime
    nonce: NotRequired[bytes | None]
    issued: NotRequired[IssuedNonce | None]
    artifacts: NotRequired[Mapping[str, Digest]]
    plan: NotRequired[bytes | None]
    other_cards: NotRequired[Sequence[bytes]]


class Question(NamedTuple):
    """Everything that decides the result of a card.

    `names` are those of the judged cards' inputs and outputs, `given` the checks of what was given
    beside them. `judged` holds the results of cards met in lineage, by object, so that each is
    judged once in one call.
    """

    policy: Policy
    setting: Setting
    cards: GivenCards
    names: frozenset[str]
    judged: dict[int, VerificationResult]
    given: tuple[Check, ...] = ()
    nonce: bytes | None = None
    challenge: Challenge | None = None
    artifacts: Mapping[str, Digest] = {}
    plan: "PlanQuestion | None" = None


def verify(card: bytes, policy: Policy = BUILT_IN, **given: Unpack[Given]) -> VerificationResult:
    """Verify one card offline; `Given` says what the keyword arguments are.

    Stateless: the same arguments give the same result. A card that is wrong in any way gives a
    rejected result, never an exception. Raises UsageError for a naive `now` and for arguments that
    are misspelt or missing.
    """
    return verify_all((card,), policy, **given)[0]


def verify_all(
    cards: Sequence[bytes], policy: Policy = BUILT_IN, **given: Unpack[Given]
) -> tuple[VerificationResult, ...]:
    """Verify several cards, each of which may refer to the others; one result for each."""
    _check_names(given)
    _check_time(given["now"])
    parsed = tuple(map(_parse, cards))
    others = tuple(map(_parse, given.get("other_cards", ())))
    judged = [card for card in parsed if isinstance(card, Card)]
    known = [card for card in others if isinstance(card, Card)]
    index = index_cards((*judged, *known))
    question = Question(
        policy=policy,
        setting=Setting(given["trust"], given["now"], {}),
        cards=index,
        names=frozenset(name for card in judged for name in _names(card.claims)),
        judged={},
        given=tuple(check_given(judged, index, len(others) - len(known))),
        nonce=given.get("nonce"),
        challenge=challenge(judged, given.get("nonce"), given.get("issued")),
        artifacts=given.get("artifacts", {}),
        plan=_plan((*judged, *known), policy, given.get("plan")),
    )
    return tuple(
        verify_card(card, question) if isinstance(card, Card) else _unparsable(card, question)
        for card in parsed
    )


def _plan(cards: Sequence[Card], policy: Policy, given: bytes | None) -> "PlanQuestion | None":
    """Return what is asked about plans, or None where nobody speaks of one."""
    if given is None and all(card.claims.run.plan is None for card in cards):
        return None
    from laminator.appraise.plan_rules import PlanQuestion, runs_by_plan

    runs = runs_by_plan(card.claims.run for card in cards)
    return PlanQuestion(given, runs, simulated="simulated" in policy.roots)


def _names(claims: Claims) -> tuple[str, ...]:
    return (*claims.inputs, *claims.outputs)


def _check_names(given: Mapping[str, object]) -> None:
    """Refuse a misspelt argument: a nonce or an artifact would go unchecked."""
    unknown, missing = given.keys() - Given.__annotations__, Given.__required_keys__ - given.keys()
    if unknown or missing:
        detail = f"unknown: {', '.join(sorted(unknown))}; missing: {', '.join(sorted(missing))}"
        raise UsageError("verify.arguments", f"wrong arguments; {detail}")


def _check_time(now: dt.datetime) -> None:
    if now.tzinfo is None:
        raise UsageError("verify.now", "the time of judging needs a time zone")
    try:
        now.astimezone(dt.UTC)
    except OverflowError as error:
        raise UsageError("verify.now", "the time of judging is in no year of UTC") from error


def _parse(data: bytes) -> Card | MalformedError:
    """Return the card, or what is wrong with it: a check, not an exception, is made of that."""
    try:
        return parse_card(data)
    except MalformedError as error:
        return error


def verify_card(card: Card, question: Question) -> VerificationResult:
    """Verify a parsed card: evidence, log, claims, artifacts, lineage, and then the policy."""
    evidence = appraise_evidence(card, question.setting)
    checks = (
        passed("card.parse", "the card is the one encoding of its content"),
        *evidence.checks,
        *check_log(card, evidence.counter_attest),
        *check_claims(card.claims, question.nonce, question.setting.now),
        *check_issued(card.id, question.challenge),
        *check_artifacts(card.claims, question.artifacts, question.names),
        *_check_plan(card, question),
        *question.given,
        *_check_lineage(card, question),
        *_check_endorsements(card),
    )
    trust = appraise_trust(evidence, question.policy)
    return _conclude(Appraised(card, trust, checks), evidence, question)


def _conclude(appraised: Appraised, evidence: Findings, question: Question) -> VerificationResult:
    policy, claims = question.policy, appraised.card.claims
    now = int(question.setting.now.timestamp())
    found = RuleFindings(claims, appraised.trust, appraised.checks, now, evidence.launch)
    rules = check_policy(policy, found)
    required = tuple(dict.fromkeys((*REQUIRED, *evidence.required, *policy.require)))
    checks = (*appraised.checks, *rules)
    verdict = verdict_of(checks, required)
    accepted = verdict == "accepted"
    return VerificationResult(
        verdict=verdict,
        card=str(Digest("sha-256", appraised.card.id)),
        kind=claims.kind,
        trust=appraised.trust,
        policy=policy.name,
        judged_at=question.setting.now,
        checks=(*checks, *missing_checks(checks, required)),
        required=required,
        statements=_statements(claims, appraised.trust, policy) if accepted else (),
        caveats=(*caveats(appraised, policy), *inherited(_parents(appraised.card, question))),
    )


def _unparsable(error: MalformedError, question: Question) -> VerificationResult:
    return VerificationResult(
        verdict="rejected",
        card=None,
        kind=None,
        trust=Trust(),
        policy=question.policy.name,
        judged_at=question.setting.now,
        checks=(failed("card.parse", error.message),),
        required=REQUIRED,
        statements=(),
        caveats=(),
    )


def appraise_trust(evidence: Findings, policy: Policy) -> Trust:
    """Name the root, how far the evidence covers, and whose authority it rests on.

    Coverage is never more than `launch` here: nothing below the attester's launch is matched.
    """
    if evidence.root == "none" or evidence.anchor is None:
        return Trust()
    known = evidence.launch is not None and evidence.launch in policy.references.launch
    independent = evidence.anchor in policy.independent_authorities
    return Trust(
        root=evidence.root,
        coverage="launch" if known else "none",
        authority="independent" if independent else "self-certified",
        anchor=str(evidence.anchor),
    )


def _check_lineage(card: Card, question: Question) -> tuple[Check, ...]:
    below = question._replace(
        policy=question.policy.for_lineage(),
        nonce=None,
        challenge=None,
        artifacts={},
        plan=None if question.plan is None else question.plan._replace(given=None),
        given=(),
    )

    def judge(parent: Card) -> VerificationResult:
        if id(parent) not in below.judged:
            below.judged[id(parent)] = verify_card(parent, below)
        return below.judged[id(parent)]

    return tuple(check_lineage(card.claims, question.cards, judge))


def _parents(card: Card, question: Question) -> Iterator[VerificationResult]:
    """Yield an accepted result for each card that `card` builds on, as judged before."""
    for id_ in dict.fromkeys((card.claims.cards or {}).values()):
        results = [question.judged.get(id(each)) for each in question.cards.cards.get(id_, ())]
        yield from [result for result in results if result is not None and result.accepted][:1]


def _check_plan(card: Card, question: Question) -> tuple[Check, ...]:
    if question.plan is None:
        return ()
    from laminator.appraise.plan_rules import check_plan

    return tuple(check_plan(card, question.plan, question.setting, question.nonce))


def _check_endorsements(card: Card) -> tuple[Check, ...]:
    found = endorsements_of(card)
    unknown = found.others + len(found.timestamps)
    if not unknown:
        return ()
    detail = f"{unknown} endorsement(s), of kinds that are not understood"
    return (not_checked("card.endorsements", detail),)


def _statements(claims: Claims, trust: Trust, policy: Policy) -> tuple[Statement, ...]:
    return tuple(_statement(item, claims, trust, policy) for item in claims.properties)


def _statement(item: Property, claims: Claims, trust: Trust, policy: Policy) -> Statement:
    measured = item.source == "measured"
    proven = "" if trust.coverage == "attester" else "not "
    by_attester = f"an attester whose code is {proven}proven (coverage {trust.coverage})"
    return Statement(
        name=item.name,
        value=item.value,
        source=item.source,
        measurer=item.measurer,
        on=item.on,
        parameters=item.parameters,
        rests_on=_RESTS_ON.get(item.source, by_attester),
        chosen_by=chosen_by(item, claims, policy.references.data) if measured else None,
        unit=item.unit,
        interval=item.interval,
    )
