"""Verifying cards: bytes in, a result out, with everything that decides it as an argument."""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict, Unpack

from laminator.appraise.artifacts import check_artifacts
from laminator.appraise.caveats import (
    Appraised,
    caveats,
    code_caveats,
    inherited,
)
from laminator.appraise.check import (
    Check,
    Statement,
    Trust,
    failed,
    missing_checks,
    not_applicable,
    passed,
    verdict_of,
)
from laminator.appraise.chosen import chosen_by
from laminator.appraise.claim_rules import REQUIRED, check_claims, check_log
from laminator.appraise.code_policy import ALLOW, UNMEASURED, CodeRules
from laminator.appraise.endorsed import check_unknown, with_endorsed
from laminator.appraise.evidence import Findings, Setting, appraise_evidence
from laminator.appraise.lineage import Given as GivenCards
from laminator.appraise.lineage import check_given, check_lineage, index_cards
from laminator.appraise.nonce_rules import Challenge, IssuedNonce, challenge, check_issued
from laminator.appraise.policy import BUILT_IN, Policy
from laminator.appraise.result import VerificationResult, When
from laminator.appraise.rules import Findings as RuleFindings
from laminator.appraise.rules import check_policy
from laminator.appraise.trust import TrustStore
from laminator.card import Card, parse_card
from laminator.claims import Claims, Property
from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError

if TYPE_CHECKING:
    from laminator.appraise.card_time import Times
    from laminator.appraise.code_rules import CodeReport, KnownCode
    from laminator.appraise.plan_rules import PlanQuestion
    from laminator.reference import ReferenceValues

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
    follow. `other_cards`: cards that the judged one may refer to. `references`: reference values of
    code that it believes. `approved_code`: digests of files of code that it approves.
    `endorsements`: signed endorsements of measurers, and lists of those withdrawn.
    """

    trust: TrustStore
    now: dt.datetime
    nonce: NotRequired[bytes | None]
    issued: NotRequired[IssuedNonce | None]
    artifacts: NotRequired[Mapping[str, Digest]]
    plan: NotRequired[bytes | None]
    other_cards: NotRequired[Sequence[bytes]]
    references: NotRequired[Sequence["ReferenceValues"]]
    approved_code: NotRequired[Collection[Digest]]
    endorsements: NotRequired[Sequence[bytes]]


class Question(NamedTuple):
    """Everything that decides the result of a card.

    `names` are those of the judged cards' inputs and outputs, `given` the checks of what was given
    beside them. `judged` holds the results of cards met in lineage, by object, so that each is
    judged once in one call. `times` is there where a card carries a time-stamp token, and `when`
    says whether cards are judged as of theirs.
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
    times: "Times | None" = None
    when: When = "now"
    plan: "PlanQuestion | None" = None
    code: "KnownCode | None" = None
    endorsements: Sequence[bytes] = ()


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
    check_time(given["now"])
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
        times=_times((*judged, *known), given),
        plan=_plan((*judged, *known), policy, given),
        code=_known_code((*judged, *known), policy, given),
        endorsements=given.get("endorsements", ()),
    )
    then = question._replace(when="then", judged={})
    return tuple(
        _verify_both(card, question, then)
        if isinstance(card, Card)
        else _unparsable(card, question)
        for card in parsed
    )


def _times(cards: Iterable[Card], given: Given) -> "Times | None":
    """Return where the times of cards are kept, or None where no card carries a token."""
    endorsed = [card for card in cards if card.endorsements]
    if not endorsed:
        return None
    from laminator.appraise.card_time import Times, is_stamped

    stamped = any(map(is_stamped, endorsed))
    return Times(given["trust"], given["now"]) if stamped else None


def _verify_both(card: Card, now: Question, then: Question) -> VerificationResult:
    """Judge `card` at the verifier's time and, where a token proves one, as of that time too."""
    result = verify_card(card, now)
    if now.times is None:
        return result
    from laminator.appraise.card_time import both_verdicts

    as_of_then = verify_card(card, then)
    if id(card) not in now.times.used:
        return result
    verified = now.times.of(card, now.policy).verified
    decides: When = "then" if now.policy.judged_as_of == "token" else "now"
    return both_verdicts(result, as_of_then, verified, decides)


def _plan(cards: Sequence[Card], policy: Policy, given: Given) -> "PlanQuestion | None":
    """Return what is asked about plans, or None where nobody speaks of one."""
    own, issued = given.get("plan"), given.get("issued")
    if own is None and all(card.claims.run.plan is None for card in cards):
        return None
    from laminator.appraise.plan_rules import PlanQuestion, runs_by_plan

    runs = runs_by_plan(card.claims for card in cards)
    made = None if issued is None else issued.issued
    return PlanQuestion(own, runs, simulated="simulated" in policy.roots, issued=made)


def _known_code(cards: Iterable[Card], policy: Policy, given: Given) -> "KnownCode | None":
    """Return what is known of code, or None where nobody speaks of any."""
    references, approved = given.get("references", ()), given.get("approved_code", ())
    measured = any(card.claims.workload.code is not None for card in cards)
    if not (measured or references or approved) and policy.code == CodeRules():
        return None
    from laminator.appraise.code_rules import KnownCode

    return KnownCode(tuple(references), frozenset(approved))


def _names(claims: Claims) -> tuple[str, ...]:
    return (*claims.inputs, *claims.outputs)


def _check_names(given: Mapping[str, object]) -> None:
    """Refuse a misspelt argument: a nonce or an artifact would go unchecked."""
    unknown, missing = given.keys() - Given.__annotations__, Given.__required_keys__ - given.keys()
    if unknown or missing:
        detail = f"unknown: {', '.join(sorted(unknown))}; missing: {', '.join(sorted(missing))}"
        raise UsageError("verify.arguments", f"wrong arguments; {detail}")


def check_time(now: dt.datetime) -> None:
    """Refuse a time of judging that is no point in UTC. Raises UsageError."""
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
    stamp = None if question.times is None else question.times.of(card, question.policy)
    proven = None if stamp is None else stamp.verified
    then = proven if question.when == "then" else None
    setting = question.setting if then is None else question.setting.at(then.time)
    evidence = appraise_evidence(card, setting)
    checks = (
        passed("card.parse", "the card is the one encoding of its content"),
        *evidence.checks,
        *check_log(card, evidence.counter_attest),
        *check_claims(card.claims, question.nonce, setting.now),
        *check_issued(card.id, question.challenge),
        *check_artifacts(card.claims, question.artifacts, question.names),
        *_check_plan(card, question),
        *question.given,
        *_check_lineage(card, question),
        *check_unknown(card),
        *(() if stamp is None else stamp.checks),
    )
    if question.times is not None and question.when == "then":
        question.times.note_use(card, _given_parents(card, question))
    trust = appraise_trust(evidence, question.policy)
    appraised = Appraised(card, trust, checks, setting.now, proven)
    return _conclude(appraised, evidence, question)


def _conclude(appraised: Appraised, evidence: Findings, question: Question) -> VerificationResult:
    policy, claims = question.policy, appraised.card.claims
    now, given = int(question.setting.now.timestamp()), question.endorsements
    appraised, endorsed = with_endorsed(appraised, given, policy, evidence.launch)
    found = RuleFindings(claims, appraised.trust, appraised.checks, now, evidence.launch, endorsed)
    own = [check for check in appraised.checks if check.id in (*REQUIRED, *evidence.required)]
    code, code_checks = _appraise_code(appraised, question)
    rules = (*check_policy(policy, found), *code_checks)
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
        judged_at=appraised.at,
        checks=(*checks, *missing_checks(checks, required)),
        required=required,
        statements=_statements(claims, appraised.trust, policy) if accepted else (),
        caveats=(
            *caveats(appraised, policy),
            *code_caveats(code),
            *inherited(_parents(appraised.card, question)),
        ),
        code=code if verdict_of(own, (*REQUIRED, *evidence.required)) == "accepted" else None,
    )


def _appraise_code(
    appraised: Appraised, question: Question
) -> tuple["CodeReport | None", tuple[Check, ...]]:
    """Say what the code that ran is, and judge it by the policy's rules."""
    if question.code is None:
        asked = question.policy.code.unknown != ALLOW
        return None, (not_applicable("policy.unknown-code", UNMEASURED),) if asked else ()
    from laminator.appraise.code_rules import check_code, report_code

    card, policy, known = appraised.card, question.policy, question.code
    launched = appraised.trust.coverage != "none"
    report = report_code(card, policy, known, launched=launched)
    return report, tuple(check_code(card, policy, known, report))


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


def _given_parents(card: Card, question: Question) -> Iterator[Card]:
    """Yield the cards given that `card` builds on."""
    for id_ in dict.fromkeys((card.claims.cards or {}).values()):
        yield from question.cards.cards.get(id_, ())


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
