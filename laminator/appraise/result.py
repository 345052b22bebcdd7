"""The result of one named check.

A check that could not be made is ``not-checked`` and never counts as passed.
"""

from typing import Literal, NamedTuple

Verdict = Literal["pass", "fail", "not-applicable", "not-checked"]

PASS: Verdict = "pass"
FAIL: Verdict = "fail"
NOT_APPLICABLE: Verdict = "not-applicable"
NOT_CHECKED: Verdict = "not-checked"


class Check(NamedTuple):
    """One named check: a stable id, its verdict, one plain sentence."""

    id: str
    verdict: Verdict
    detail: str


def passed(id_: str, detail: str) -> Check:
    """The check was made and holds."""
    return Check(id_, PASS, detail)


def failed(id_: str, detail: str) -> Check:
    """The check was made and does not hold."""
    return Check(id_, FAIL, detail)


def not_applicable(id_: str, detail: str) -> Check:
    """The card states nothing that the check could be about."""
    return Check(id_, NOT_APPLICABLE, detail)


def not_checked(id_: str, detail: str) -> Check:
    """The check could not be made, and the detail says why."""
    return Check(id_, NOT_CHECKED, detail)
