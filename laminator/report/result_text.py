"""A verification result as plain text: one line of verdict, then why, then what is not proven."""

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

from laminator.appraise.check import (
    FAIL,
    NOT_APPLICABLE,
    NOT_CHECKED,
    PASS,
    Caveat,
    Check,
    Statement,
    Trust,
    is_obstacle,
)
from laminator.appraise.result import AsOf, VerificationResult
from laminator.report.text import quoted, safe, word
from laminator.report.value import value_text

DETAIL_LIMIT = 400

_MARKS = {PASS: "pass", FAIL: "FAIL", NOT_APPLICABLE: "n/a", NOT_CHECKED: "not checked"}
_MARK_WIDTH = max(map(len, _MARKS.values()))


def result_text(result: VerificationResult, source: str) -> str:
    """Return the report on the card that came from `source`, a file's name."""
    return "\n".join(
        (
            verdict_line(result, source),
            *summary(
                (
                    ("card", result.card or "unreadable"),
                    ("kind", result.kind or "unknown"),
                    *trust_rows(result.trust, result.judged_at),
                    *_both_times(result),
                )
            ),
            "",
            "checks (* is required)",
            *check_table(result.checks, result.required),
            *_code(result),
            *section("what the card states", map(_statement, result.statements)),
            *caveat_section("what this result does not prove", result.caveats),
        )
    )


def verdict_line(result: VerificationResult, source: str) -> str:
    """Return ``FILE: ACCEPTED`` or ``FILE: REJECTED``, with the policy and the decisive checks."""
    head = f"{safe(source)}: {result.verdict.upper()} under policy {safe(result.policy)}"
    failures = dict.fromkeys(check.id for check in result.failures())
    return f"{head}: {', '.join(map(safe, failures))}" if failures else head


def check_table(checks: Sequence[Check], required: Iterable[str]) -> Iterator[str]:
    """Yield one line a check, those that forbid acceptance first."""
    needed = frozenset(required)
    width = max((len(safe(check.id)) for check in checks), default=0)
    ordered = sorted(checks, key=lambda check: not is_obstacle(check, needed))
    for check in ordered:
        star = "*" if check.id in needed else " "
        mark = f"{_MARKS[check.verdict]:<{_MARK_WIDTH}}"
        detail = safe(check.detail, limit=DETAIL_LIMIT)
        yield f"  {mark} {star} {safe(check.id):<{width}}  {detail}"


def trust_rows(trust: Trust, judged_at: dt.datetime) -> tuple[tuple[str, str], ...]:
    """Return what a summary says of how far the evidence reaches, and as of when."""
    return (
        ("root", trust.root),
        ("coverage", trust.coverage),
        ("authority", trust.authority),
        ("anchor", trust.anchor or "none"),
        ("judged at", judged_at.isoformat(timespec="seconds")),
    )


def summary(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a line for each (name, value)."""
    for name, value in rows:
        yield f"  {name:<9}  {safe(value)}"


def caveat_section(title: str, caveats: Iterable[Caveat]) -> Iterator[str]:
    """Yield what a result does not prove, below `title`; nothing where there is none."""
    return section(title, (f"{each.code}: {safe(each.text, limit=1000)}" for each in caveats))


def _code(result: VerificationResult) -> Iterator[str]:
    if result.code is not None:
        from laminator.report.code_text import code_lines

        yield from section("the code that ran", code_lines(result.code))


def _both_times(result: VerificationResult) -> Iterator[tuple[str, str]]:
    """Yield what is found now and as of the time-stamp; what does not hold is named."""
    found = result.as_of
    if found is None:
        return
    own = ", ".join(dict.fromkeys(check.id for check in result.failures()))
    other = ", ".join(found.other_failures)
    now, then = (own, other) if found.decides == "now" else (other, own)
    yield "now", _outcome(found.now, now)
    yield "as of", f"{_outcome(found.then, then)} at {_when(found)}"


def _outcome(verdict: str, failures: str) -> str:
    return f"{verdict} ({failures})" if failures else verdict


def _when(found: AsOf) -> str:
    if found.time is None or found.authority is None:
        return "the times proven for cards that it builds on"
    kind = "a simulated time-stamp" if found.simulated else "a time-stamp"
    time = found.time.isoformat(timespec="seconds")
    return f"{time}, proven by {kind} of {quoted(found.authority)}"


def section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield `lines` as items below `title`; nothing where there is none."""
    indented = [f"  - {line}" for line in lines]
    if indented:
        yield from ("", title, *indented)


def _statement(statement: Statement) -> str:
    about = f" on {', '.join(statement.on)}" if statement.on else ""
    chosen = f", data chosen by: {safe(statement.chosen_by)}" if statement.chosen_by else ""
    value = value_text(statement.value, statement.unit, statement.interval)
    whose = f"{safe(statement.source)} by {word(statement.measurer)}"
    name = safe(f"{statement.name}{about}")
    return f"[{whose}: {safe(statement.rests_on)}{chosen}] {name} = {value}"
