"""What a verifier says of one card."""

import datetime as dt
from typing import Literal, NamedTuple

from laminator.appraise.check import (
    FAIL,
    NOT_APPLICABLE,
    NOT_CHECKED,
    PASS,
    Caveat,
    Check,
    Statement,
    Trust,
    Verdict,
    failed,
    is_obstacle,
    missing_checks,
    not_applicable,
    not_checked,
    passed,
    verdict_of,
)

__all__ = [
    "FAIL",
    "NOT_APPLICABLE",
    "NOT_CHECKED",
    "PASS",
    "Caveat",
    "Check",
    "Statement",
    "Trust",
    "Verdict",
    "VerificationResult",
    "failed",
    "is_obstacle",
    "missing_checks",
    "not_applicable",
    "not_checked",
    "passed",
    "verdict_of",
]

RESULT_FORMAT = "laminator-verification-result-v1"


class VerificationResult(NamedTuple):
    """What a verifier says of one card at one time under one policy.

    `accepted` holds only where no check failed and every required check passed. `statements` is
    empty for a rejected card: nothing unverified comes out of here.
    """

    verdict: Literal["accepted", "rejected"]
    card: str | None
    kind: str | None
    trust: Trust
    policy: str
    judged_at: dt.datetime
    checks: tuple[Check, ...]
    required: tuple[str, ...]
    statements: tuple[Statement, ...]
    caveats: tuple[Caveat, ...]

    @property
    def accepted(self) -> bool:
        """True for a card that this verifier accepts under this policy."""
        return self.verdict == "accepted"

    def failures(self) -> tuple[Check, ...]:
        """Return the checks that stand between this card and acceptance, in their order."""
        return tuple(check for check in self.checks if is_obstacle(check, self.required))

    def to_json(self) -> dict[str, object]:
        """Return the result as plain JSON values, after docs/verification-result.schema.json."""
        # Half a millisecond of the verifier's start, for who wants JSON.
        from laminator.appraise.ar4si import trustworthiness
        from laminator.report.export import statement_to_json

        return {
            "format": RESULT_FORMAT,
            "verdict": self.verdict,
            "card": self.card,
            "kind": self.kind,
            "policy": self.policy,
            "judged-at": self.judged_at.astimezone(dt.UTC).isoformat(),
            **self.trust._asdict(),
            "checks": [check._asdict() for check in self.checks],
            "required": list(self.required),
            "failures": list(dict.fromkeys(check.id for check in self.failures())),
            "properties": [statement_to_json(statement) for statement in self.statements],
            "caveats": [caveat._asdict() for caveat in self.caveats],
            "ar4si": trustworthiness(self.trust, self.checks, accepted=self.accepted),
        }
