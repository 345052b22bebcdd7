"""A ledger to hand over: the cards and failure records of an interval of run numbers."""

from typing import NamedTuple

from laminator.errors import UsageError
from laminator.ledger import MAX_LEDGER, MAX_NUMBERS, encode_ledger
from laminator.run.runs import LoggedRun, MachineRuns

_UNLISTED = "it is not in the list of runs"


class Missing(NamedTuple):
    """A number that the exported ledger has nothing for, and why as far as the list says."""

    number: int
    reason: str


class Export(NamedTuple):
    """An exported ledger's bytes, what it holds and what it lacks."""

    content: bytes
    first: int
    last: int
    cards: int
    failures: int
    missing: tuple[Missing, ...]


def choose_machine(machines: tuple[MachineRuns, ...], key: str | None) -> MachineRuns:
    """Return the machine whose key's digest starts with `key`, the only one without it.

    Raises UsageError.
    """
    named = tuple(each for each in machines if each.key)
    wanted = (key or "").removeprefix("sha-256:").lower()
    found = [each for each in named if each.key.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(each.key for each in named) or "none"
    if not found:
        raise UsageError("ledger.key", f"no run of such a key is listed; known keys: {known}")
    message = f"several machines or keys ran here; choose one with --key: {known}"
    raise UsageError("ledger.key", message)


def export_ledger(machine: MachineRuns, first: int | None, last: int | None) -> Export:
    """Collect the cards and failure records of numbers `first` to `last`, both included.

    Without them the machine's first and last listed numbers count. Raises UsageError.
    """
    numbers = [run.number for run in machine.runs]
    first = min(numbers) if first is None else first
    last = max(numbers) if last is None else last
    if not 1 <= first <= last < first + MAX_NUMBERS:
        message = f"--from {first} --to {last}: expected 1 to {MAX_NUMBERS} numbers, from 1 on"
        raise UsageError("ledger.interval", message)
    inside = [run for run in machine.runs if first <= run.number <= last]
    kept = [run for run in inside if run.evidence is not None]
    entries = [run.evidence for run in kept if run.evidence is not None]
    if sum(map(len, entries)) > MAX_LEDGER - MAX_NUMBERS * 8:
        message = f"numbers {first} to {last} are more than one ledger holds; export fewer"
        raise UsageError("ledger.size", message)
    return Export(
        content=encode_ledger(first, last, entries),
        first=first,
        last=last,
        cards=sum(run.state == "card" for run in kept),
        failures=sum(run.state == "failed" for run in kept),
        missing=_missing(inside, kept, first, last),
    )


def _missing(
    inside: list[LoggedRun], kept: list[LoggedRun], first: int, last: int
) -> tuple[Missing, ...]:
    there = {run.number for run in kept}
    reasons = {run.number: run.lack for run in inside}
    return tuple(
        Missing(number, reasons.get(number, _UNLISTED))
        for number in range(first, last + 1)
        if number not in there
    )
