"""Checks, how they add up, and the values that a result is made of.

A check that could not be made is ``not-checked`` and never counts as passed.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from laminator.cbor import Value
from laminator.claims import Interval

Verdict = Literal["pass", "fail", "not-applicable", "not-checked"]

PASS: Verdict = "pass"  # noqa: S105
FAIL: Verdict = "fail"
NOT_APPLICABLE: Verdict = "not-applicable"
NOT_CHECKED: Verdict = "not-checked"


class Check(NamedTuple):
    """One named check: a stable id, its verdict, one plain sentence."""

    id: str
    verdict: Verdict
    detail: str


def passed(id_: str, detail: str) -> Check:
    """Return a check that was made and holds."""
    return Check(id_, PASS, detail)


def failed(id_: str, detail: str) -> Check:
    """Return a check that was made and does not hold."""
    return Check(id_, FAIL, detail)


def not_applicable(id_: str, detail: str) -> Check:
    """Return a check about which the card states nothing."""
    return Check(id_, NOT_APPLICABLE, detail)


def not_checked(id_: str, detail: str) -> Check:
    """Return a check that could not be made; the detail says why."""
    return Check(id_, NOT_CHECKED, detail)


class Caveat(NamedTuple):
    """One thing that the result does not prove: a stable code and a sentence.

    `card` is the id of the card that this one builds on and that the caveat is about, None for
    the judged card itself.
    """

    code: str
    text: str
    card: str | None = None


class Statement(NamedTuple):
    """A property of an accepted card, with whose word it is and what that word rests on."""

    name: str
    value: Value
    source: str
    measurer: str
    on: tuple[str, ...]
    parameters: Mapping[str, Value]
    rests_on: str
    chosen_by: str | None = None
    unit: str | None = None
    interval: Interval | None = None


class Trust(NamedTuple):
    """How far the evidence reaches: two fields that are never merged, and who vouched.

    `root` is the kind of the anchor, `coverage` how far below the attester's code every link
    matches a reference value, `authority` "self-certified", "independent" or "none", `anchor`
    the anchor certificate's SHA-256 as text.
    """

    root: str = "none"
    coverage: str = "none"
    authority: str = "none"
    anchor: str | None = None


def is_obstacle(check: Check, required: Collection[str]) -> bool:
    """Tell whether `check` forbids acceptance: it failed, or is required and did not pass."""
    return check.verdict == FAIL or (check.id in required and check.verdict != PASS)


def missing_checks(checks: Iterable[Check], required: Iterable[str]) -> tuple[Check, ...]:
    """Return a `not-checked` for every required id that `checks` does not hold."""
    present = {check.id for check in checks}
    return tuple(
        not_checked(id_, "required, but nothing in the card could be checked for it")
        for id_ in dict.fromkeys(required)
        if id_ not in present
    )


def verdict_of(
    checks: Iterable[Check], required: Collection[str]
) -> Literal["accepted", "rejected"]:
    """Return the verdict: every required check is present and passed, and none failed."""
    checks = tuple(checks)
    refused = missing_checks(checks, required) or any(
        is_obstacle(check, required) for check in checks
    )
    return "rejected" if refused else "accepted"
