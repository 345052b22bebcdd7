"""What a verifier says of a ledger of runs."""

import datetime as dt
from typing import Literal, NamedTuple

from laminator.appraise.check import Caveat, Check, Trust, is_obstacle
from laminator.digest import Digest

LEDGER_RESULT_FORMAT = "laminator-ledger-result-v1"


class Account(NamedTuple):
    """What a ledger holds for one run number.

    `number`, `id`, `kind` (a card's kind, or a failure's outcome), `run`, `plan` and `keys`
    (digests of attestation keys) are what the entry says, proven only where `verdict` is accepted.
    A gap has a number alone, an unreadable entry none.
    """

    entry: Literal["card", "failure", "unreadable", "gap"]
    number: int | None
    verdict: Literal["accepted", "rejected"] = "rejected"
    id: str | None = None
    kind: str | None = None
    run: bytes = b""
    plan: Digest | None = None
    keys: frozenset[bytes] = frozenset()
    trust: Trust = Trust()
    failures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the account as plain JSON values."""
        if self.entry == "gap":
            return {"number": self.number, "entry": self.entry}
        kind = "outcome" if self.entry == "failure" else "kind"
        return {
            "number": self.number,
            "entry": self.entry,
            "verdict": self.verdict,
            "id": self.id,
            kind: self.kind,
            "failures": list(self.failures),
        }


class LedgerResult(NamedTuple):
    """What a verifier says of a ledger at one time under one policy.

    `numbers` accounts for every number from `first` to `last` in order, then for entries that lie
    outside. `key` is the digest of the one attestation key, None where there is not one. `trust`
    is that of the weakest entry.
    """

    verdict: Literal["accepted", "rejected"]
    policy: str
    judged_at: dt.datetime
    checks: tuple[Check, ...]
    required: tuple[str, ...]
    first: int | None = None
    last: int | None = None
    key: str | None = None
    trust: Trust = Trust()
    numbers: tuple[Account, ...] = ()
    caveats: tuple[Caveat, ...] = ()

    @property
    def accepted(self) -> bool:
        """True where an accepted card or failure record accounts for every number."""
        return self.verdict == "accepted"

    def failures(self) -> tuple[Check, ...]:
        """Return the checks that forbid acceptance, in their order."""
        return tuple(check for check in self.checks if is_obstacle(check, self.required))

    def to_json(self) -> dict[str, object]:
        """Return the result as plain JSON values, after docs/ledger-result.schema.json."""
        return {
            "format": LEDGER_RESULT_FORMAT,
            "verdict": self.verdict,
            "from": self.first,
            "to": self.last,
            "key": self.key,
            "policy": self.policy,
            "judged-at": self.judged_at.astimezone(dt.UTC).isoformat(),
            **self.trust._asdict(),
            "checks": [check._asdict() for check in self.checks],
            "required": list(self.required),
            "failures": list(dict.fromkeys(check.id for check in self.failures())),
            "numbers": [each.to_json() for each in self.numbers],
            "caveats": [{"code": each.code, "text": each.text} for each in self.caveats],
        }
