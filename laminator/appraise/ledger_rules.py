"""The checks of a ledger of runs as a whole, one function a check."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from laminator.appraise.check import Check, failed, not_applicable, not_checked, passed
from laminator.appraise.ledger_result import Account
from laminator.digest import Digest
from laminator.ledger import MAX_NUMBERS, Ledger

REQUIRED = (
    "ledger.parse",
    "ledger.interval",
    "ledger.entries",
    "ledger.machine",
    "ledger.numbers",
    "ledger.gaps",
)
_SHOWN = 8


def is_interval(ledger: Ledger) -> bool:
    """Tell whether the ledger's numbers are an interval of bounded length, from 1 on."""
    return 1 <= ledger.first <= ledger.last < ledger.first + MAX_NUMBERS


def check_interval(ledger: Ledger, entries: Sequence[Account]) -> Check:
    """`ledger.interval`: a bounded interval, and entries whose numbers are in it and in order."""
    id_ = "ledger.interval"
    if not is_interval(ledger):
        detail = f"{ledger.first} to {ledger.last} is no interval of 1 to {MAX_NUMBERS} run numbers"
        return failed(id_, detail)
    numbers = [each.number for each in entries if each.number is not None]
    outside = [number for number in numbers if not ledger.first <= number <= ledger.last]
    if outside:
        detail = f"{ranges(outside)} outside the ledger's {ledger.first} to {ledger.last}"
        return failed(id_, detail)
    if any(before > after for before, after in pairwise(numbers)):
        return failed(id_, "the entries are not in the order of their numbers")
    return passed(id_, f"run numbers {ledger.first} to {ledger.last}, in order")


def check_entries(entries: Sequence[Account]) -> Check:
    """`ledger.entries`: every card and every failure record is accepted by itself."""
    rejected = [each for each in entries if each.verdict != "accepted"]
    if rejected:
        named = "; ".join(map(_reason, rejected[:_SHOWN]))
        more = f"; and {len(rejected) - _SHOWN} more" if len(rejected) > _SHOWN else ""
        return failed("ledger.entries", f"rejected: {named}{more}")
    return passed("ledger.entries", f"all {len(entries)} entries are accepted")


def check_machine(entries: Iterable[Account]) -> Check:
    """`ledger.machine`: one attestation key signed every entry, so that one counter counted."""
    keys = {key for each in entries for key in each.keys}
    if not keys:
        return not_checked("ledger.machine", "no entry names an attestation key")
    if len(keys) > 1:
        named = ", ".join(key.hex() for key in sorted(keys)[:_SHOWN])
        return failed("ledger.machine", f"{len(keys)} attestation keys: {named}")
    return passed("ledger.machine", f"one attestation key: {next(iter(keys)).hex()}")


def check_numbers(entries: Iterable[Account]) -> Check:
    """`ledger.numbers`: no number stands for two runs, or twice for one.

    The TPM counts once a run, but certifies one value for as many run ids as it is asked for.
    """
    numbered = [each for each in entries if each.number is not None]
    counts = Counter(each.number for each in numbered)
    twice = sorted(number for number, count in counts.items() if number and count > 1)
    if twice:
        runs = {each.run for each in numbered if each.number == twice[0]}
        detail = f"number {twice[0]} stands here {counts[twice[0]]} times, for {len(runs)} run(s)"
        return failed("ledger.numbers", f"{detail}; repeated: {ranges(twice)}")
    return passed("ledger.numbers", "each number stands for one run")


def check_gaps(ledger: Ledger, missing: Sequence[int]) -> Check:
    """`ledger.gaps`: every number of the interval has an entry; those `missing` are named."""
    if not is_interval(ledger):
        return not_checked("ledger.gaps", "there is no interval to look for gaps in")
    if missing:
        detail = f"no card and no failure record for {len(missing)} number(s): {ranges(missing)}"
        return failed("ledger.gaps", detail)
    return passed("ledger.gaps", f"{ledger.first} to {ledger.last} without a gap")


def check_plans(
    entries: Sequence[Account], plans: Mapping[Digest, int], given: Collection[Digest] = ()
) -> Check:
    """`ledger.plans`: no plan has more runs here than it allows; `plans` are those that are known.

    Without the plan's bytes, which a card may carry, nobody knows how many runs it allows. A run
    here has to follow each plan that was `given`.
    """
    runs = {(each.plan, each.run) for each in entries}
    counts = Counter(plan for plan, _ in runs if plan is not None)
    strange = sorted(set(given) - counts.keys())
    if strange:
        named = ", ".join(map(str, strange))
        return failed("ledger.plans", f"no run here follows the plan given, {named}")
    if not counts:
        return not_applicable("ledger.plans", "no run here says that it follows a plan")
    more = [
        f"{counts[plan]} runs of {plan}, {plans[plan]} planned"
        for plan in sorted(counts)
        if plan in plans and counts[plan] > plans[plan]
    ]
    if more:
        return failed("ledger.plans", "; ".join(more[:_SHOWN]))
    unknown = sorted(counts.keys() - plans.keys())
    if unknown:
        named = ", ".join(map(str, unknown[:_SHOWN]))
        return not_checked("ledger.plans", f"no card here carries the plan {named}")
    return passed("ledger.plans", f"{len(counts)} plan(s), none with more runs than planned")


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as text in order, runs of them as `3-7`."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def _reason(entry: Account) -> str:
    number = "an entry without a number" if entry.number is None else f"number {entry.number}"
    return f"{number} ({', '.join(entry.failures[:_SHOWN])})"
