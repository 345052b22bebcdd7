"""Verifying a ledger of runs: bytes in, a result out that accounts for every number."""

import contextlib
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence

from laminator.appraise.caveats import trust_caveats
from laminator.appraise.check import FAIL, Caveat, Check, Trust, failed, passed, verdict_of
from laminator.appraise.evidence import Setting
from laminator.appraise.failure import verify_failure
from laminator.appraise.ledger_result import Account, LedgerResult
from laminator.appraise.ledger_rules import (
    REQUIRED,
    check_entries,
    check_gaps,
    check_interval,
    check_machine,
    check_numbers,
    check_plans,
    is_interval,
)
from laminator.appraise.lineage import index_cards
from laminator.appraise.policy import BUILT_IN, COVERAGES, Policy
from laminator.appraise.trust import TrustStore
from laminator.appraise.verify import Question, check_time, verify_card
from laminator.card import Card, parse_card
from laminator.digest import Digest, sha256
from laminator.errors import MalformedError
from laminator.failure import FailureRecord, parse_failure
from laminator.ledger import Entry, Ledger, is_failure, parse_ledger

# Codes are part of the interface: they stay, and the schema of ledger results lists them.
SENTENCES = {
    "ledger.interval": "Only the numbers {first} to {last} are accounted for: which run was the "
    "machine's first and which is its latest, this ledger does not show.",
    "ledger.no-number": "Work without the wrapper, and a run that was stopped before it took a "
    "number, leave no trace here.",
    "ledger.other-keys": "Runs on other machines, or under another attestation key of this one, "
    "are not in this ledger. The keys of a machine share its counter: a number that another key, "
    "or making and enrolling the machine, took looks like a gap.",
    "ledger.same-number": "No number stands here twice, but whoever owns a host whose attester is "
    "not proven can have one number certified for several runs and show one of them.",
    "ledger.outcomes": "That a run failed, and how, is the attester's word; what the run had found "
    "out by then, nobody attests.",
}


def verify_ledger(
    data: bytes,
    policy: Policy = BUILT_IN,
    *,
    trust: TrustStore,
    now: dt.datetime,
    plan: bytes | None = None,
) -> LedgerResult:
    """Verify a ledger of runs offline; each entry is judged under `policy.for_ledger()`.

    `plan` is the verifier's own, which at least one run here has to follow. A ledger that is wrong
    in any way gives a rejected result, never an exception. Raises UsageError for a naive `now`,
    MalformedError for a `plan` that is none.
    """
    check_time(now)
    try:
        ledger = parse_ledger(data)
    except MalformedError as error:
        unreadable = failed("ledger.parse", error.message)
        return LedgerResult("rejected", policy.name, now, (unreadable,), REQUIRED)
    setting = Setting(trust, now, {})
    parsed = [_parsed(entry) for entry in ledger.entries]
    entries = [_account(entry, policy.for_ledger(), setting) for entry in parsed]
    gaps = _gaps(ledger, entries)
    checks = (
        passed("ledger.parse", "the ledger is the one encoding of its content"),
        *_check_whole(ledger, entries, gaps),
        _check_plans(entries, _plans(parsed), plan),
    )
    weakest = _weakest([each.trust for each in entries])
    return LedgerResult(
        verdict=verdict_of(checks, REQUIRED),
        policy=policy.name,
        judged_at=now,
        checks=checks,
        required=REQUIRED,
        first=ledger.first,
        last=ledger.last,
        key=_key(entries),
        trust=weakest,
        numbers=_in_order(entries, gaps),
        caveats=tuple(_caveats(ledger, weakest)),
    )


def _parsed(data: bytes) -> Entry | Check:
    """Return the entry, or the check that it fails: bytes that are neither kind are no card."""
    id_ = "card.parse"
    try:
        if is_failure(data):
            id_ = "failure.parse"
            return parse_failure(data)
        return parse_card(data)
    except MalformedError as error:
        return failed(id_, error.message)


def _account(entry: Entry | Check, policy: Policy, setting: Setting) -> Account:
    if isinstance(entry, Check):
        return Account("unreadable", None, failures=(entry.id,) if entry.verdict == FAIL else ())
    if isinstance(entry, Card):
        return _card_account(entry, policy, setting)
    return _failure_account(entry, policy, setting)


def _card_account(card: Card, policy: Policy, setting: Setting) -> Account:
    question = Question(policy, setting, index_cards(()), frozenset(), {})
    result = verify_card(card, question)
    return Account(
        entry="card",
        number=card.claims.run.number,
        verdict=result.verdict,
        id=result.card,
        kind=card.claims.kind,
        run=card.claims.run.id,
        plan=card.claims.run.plan,
        keys=frozenset(ref.key for ref in card.claims.evidence),
        trust=result.trust,
        failures=tuple(dict.fromkeys(check.id for check in result.failures())),
    )


def _failure_account(record: FailureRecord, policy: Policy, setting: Setting) -> Account:
    result = verify_failure(record, policy, setting)
    return Account(
        entry="failure",
        number=record.claims.run.number,
        verdict=result.verdict,
        id=str(Digest("sha-256", record.id)),
        kind=record.claims.outcome,
        run=record.claims.run.id,
        plan=record.claims.run.plan,
        keys=frozenset({record.claims.evidence.key}),
        trust=result.trust,
        failures=tuple(dict.fromkeys(check.id for check in result.failures())),
    )


def _check_whole(
    ledger: Ledger, entries: Sequence[Account], gaps: Sequence[int]
) -> Iterator[Check]:
    yield check_interval(ledger, entries)
    yield check_entries(entries)
    yield check_machine(entries)
    yield check_numbers(entries)
    yield check_gaps(ledger, gaps)


def _check_plans(
    entries: Sequence[Account], carried: Mapping[Digest, int], given: bytes | None
) -> Check:
    if given is None:
        return check_plans(entries, carried)
    from laminator.plan import parse_plan

    own = {sha256(given): parse_plan(given).runs}
    return check_plans(entries, {**carried, **own}, own.keys())


def _plans(entries: Iterable[Entry | Check]) -> dict[Digest, int]:
    """Return how many runs each plan allows whose bytes a card here carries, by its digest."""
    from laminator.appraise.plan_rules import find_plan
    from laminator.plan import parse_plan

    found: dict[Digest, int] = {}
    for entry in entries:
        plan = entry.claims.run.plan if isinstance(entry, Card) else None
        if plan is None or plan in found or not isinstance(entry, Card):
            continue
        # An endorsement that is no plan counts for nothing.
        with contextlib.suppress(MalformedError):
            content = find_plan(entry, None)
            if content is not None:
                found[plan] = parse_plan(content).runs
    return found


def _gaps(ledger: Ledger, entries: Sequence[Account]) -> tuple[int, ...]:
    """Return the numbers of the interval that no entry claims; none where it is no interval."""
    if not is_interval(ledger):
        return ()
    there = {each.number for each in entries}
    return tuple(n for n in range(ledger.first, ledger.last + 1) if n not in there)


def _in_order(entries: Sequence[Account], gaps: Sequence[int]) -> tuple[Account, ...]:
    """Return entries and gaps by number; entries without a number come last."""
    accounts = (*entries, *(Account("gap", number) for number in gaps))
    return tuple(sorted(accounts, key=lambda each: (each.number is None, each.number or 0)))


def _key(entries: Sequence[Account]) -> str | None:
    """Return the digest of the one key that every entry is proven to be signed by."""
    keys = {key for each in entries for key in each.keys}
    proven = all(each.verdict == "accepted" for each in entries)
    return str(Digest("sha-256", keys.pop())) if proven and len(keys) == 1 else None


def _weakest(trusts: Sequence[Trust]) -> Trust:
    """Return the trust that all of the entries reach; what they do not share is none."""
    if not trusts:
        return Trust()
    roots, anchors = {each.root for each in trusts}, {each.anchor for each in trusts}
    authorities = {each.authority for each in trusts}
    return Trust(
        root=roots.pop() if len(roots) == 1 else "none",
        coverage=min((each.coverage for each in trusts), key=COVERAGES.index),
        authority=authorities.pop() if len(authorities) == 1 else "none",
        anchor=anchors.pop() if len(anchors) == 1 else None,
    )


def _caveats(ledger: Ledger, trust: Trust) -> Iterator[Caveat]:
    yield from trust_caveats(trust)
    for code, sentence in SENTENCES.items():
        yield Caveat(code, sentence.format(first=ledger.first, last=ledger.last))
