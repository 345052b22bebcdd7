"""What a verifier says of one card."""

import datetime as dt
from typing import TYPE_CHECKING, Literal, NamedTuple

from laminator.appraise.check import Caveat, Check, Statement, Trust, is_obstacle

if TYPE_CHECKING:
    from laminator.appraise.code_rules import CodeReport

RESULT_FORMAT = "laminator-verification-result-v1"

Outcome = Literal["accepted", "rejected"]
When = Literal["now", "then"]


class AsOf(NamedTuple):
    """The verdicts at the verifier's time (`now`) and as of the cards' time-stamps (`then`).

    `decides` is the one that the policy asks for. `time`, `authority` (an RFC 4514 string, not fit
    for a terminal) and `anchor` are those of the judged card's own token, None where only cards
    that it builds on have one. `other_failures` are the ids of the checks that forbid the verdict
    that does not decide.
    """

    decides: When
    now: Outcome
    then: Outcome
    time: dt.datetime | None
    authority: str | None
    anchor: str | None
    simulated: bool
    other_failures: tuple[str, ...]


class VerificationResult(NamedTuple):
    """What a verifier says of one card at one time under one policy.

    `accepted` holds only where no check failed and every required check passed. `statements` is
    empty for a rejected card: nothing unverified comes out of here. `as_of` is None where no
    time-stamp proves a time: there is one verdict then, at the verifier's own time. `code` is None
    where the card does not say that its code was measured, or where evidence or claims do not hold.
    """

    verdict: Outcome
    card: str | None
    kind: str | None
    trust: Trust
    policy: str
    judged_at: dt.datetime
    checks: tuple[Check, ...]
    required: tuple[str, ...]
    statements: tuple[Statement, ...]
    caveats: tuple[Caveat, ...]
    as_of: AsOf | None = None
    code: "CodeReport | None" = None

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
            "as-of": self._as_of_json(),
            **self.trust._asdict(),
            "checks": [check._asdict() for check in self.checks],
            "required": list(self.required),
            "failures": list(dict.fromkeys(check.id for check in self.failures())),
            "code": self._code_json(),
            "properties": [statement_to_json(statement) for statement in self.statements],
            "caveats": [caveat._asdict() for caveat in self.caveats],
            "ar4si": trustworthiness(self.trust, self.checks, accepted=self.accepted),
        }

    def _code_json(self) -> dict[str, object] | None:
        if self.code is None:
            return None
        from laminator.report.code_text import code_to_json

        return code_to_json(self.code)

    def _as_of_json(self) -> dict[str, object]:
        found = self.as_of
        if found is None:
            nothing = dict.fromkeys(("then", "time", "authority", "anchor"))
            rest = {"simulated": False, "other-failures": []}
            return {"decides": "now", "now": self.verdict, **nothing, **rest}
        return {
            "decides": found.decides,
            "now": found.now,
            "then": found.then,
            "time": None if found.time is None else found.time.isoformat(),
            "authority": found.authority,
            "anchor": found.anchor,
            "simulated": found.simulated,
            "other-failures": list(found.other_failures),
        }
