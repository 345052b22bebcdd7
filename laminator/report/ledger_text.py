"""The result for a ledger of runs as plain text: the verdict, the checks, each number's account."""

from collections import Counter
from collections.abc import Iterator

from laminator.appraise.ledger_result import Account, LedgerResult
from laminator.appraise.ledger_rules import ranges
from laminator.report.result_text import caveat_section, check_table, summary, trust_rows
from laminator.report.text import safe, word

_WORDS = {
    "card": "card(s)",
    "failure": "failure record(s)",
    "gap": "gap(s)",
    "unreadable": "unreadable",
}


def ledger_text(result: LedgerResult, source: str) -> str:
    """Return the report on the ledger that came from `source`, a file's name."""
    return "\n".join(
        (
            ledger_line(result, source),
            *summary(
                (
                    ("key", result.key or "not one that every entry proves"),
                    *trust_rows(result.trust, result.judged_at),
                )
            ),
            "",
            "checks (* is required)",
            *check_table(result.checks, result.required),
            *_numbers(result),
            *caveat_section("what this result does not show", result.caveats),
        )
    )


def ledger_line(result: LedgerResult, source: str) -> str:
    """Return ``FILE: ACCEPTED`` or ``FILE: REJECTED``, with what the interval holds."""
    head = f"{safe(source)}: {result.verdict.upper()} under policy {safe(result.policy)}"
    if result.first is None:
        return f"{head}: not readable"
    counts = Counter[str](each.entry for each in result.numbers)
    held = ", ".join(f"{counts[entry]} {text}" for entry, text in _WORDS.items() if counts[entry])
    failures = dict.fromkeys(check.id for check in result.failures())
    wrong = f": {', '.join(failures)}" if failures else ""
    return f"{head}: numbers {result.first} to {result.last}: {held or 'nothing'}{wrong}"


def _numbers(result: LedgerResult) -> Iterator[str]:
    if result.numbers:
        yield from ("", "numbers")
    gaps: list[int] = []
    for each in result.numbers:
        if each.entry == "gap" and each.number is not None:
            gaps.append(each.number)
            continue
        yield from _gap(gaps)
        gaps = []
        yield _account(each)
    yield from _gap(gaps)


def _gap(numbers: list[int]) -> Iterator[str]:
    if numbers:
        yield f"  {ranges(numbers):<9}  GAP       no card and no failure record"


def _account(each: Account) -> str:
    number = "?" if each.number is None else str(each.number)
    verdict = each.verdict if each.verdict == "accepted" else each.verdict.upper()
    about = [word(each.kind)] if each.kind else []
    about += [each.id] if each.id else []
    about += [f"({', '.join(map(safe, each.failures))})"] if each.failures else []
    return f"  {number:<9}  {each.entry:<8}  {verdict}  {' '.join(about)}".rstrip()
