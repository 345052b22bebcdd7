"""The result of one named check.

A check that could not be made is ``not-checked`` and never counts as passed.
"""

from typing import Literal, NamedTuple

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
