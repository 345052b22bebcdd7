"""`laminator verify --ledger`: verify a ledger of runs offline."""

import argparse
import datetime as dt
import sys

from laminator.appraise.ledger import verify_ledger
from laminator.appraise.ledger_result import LedgerResult
from laminator.appraise.policy import Policy
from laminator.appraise.trust import TrustStore
from laminator.errors import UsageError
from laminator.ledger import MAX_LEDGER
from laminator.reading import read_bounded
from laminator.report.ledger_text import ledger_text

OF_CARDS = ("cards", "artifact", "nonce", "lineage", "as_of", "reference", "allow_code")
"""The verb's arguments that are about cards, and have no meaning for a ledger."""


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what a ledger is not judged by: it would go unchecked. Raises UsageError."""
    given = [name.replace("_", "-") for name in OF_CARDS if getattr(args, name, None)]
    if given:
        named = ", ".join("CARD" if name == "cards" else f"--{name}" for name in given)
        message = f"--ledger is judged by itself: leave out {named}"
        raise UsageError("verify.ledger", message)


def judge_ledger(
    args: argparse.Namespace,
    policy: Policy,
    trust: TrustStore,
    now: dt.datetime,
    plan: bytes | None,
) -> int:
    """Verify the ledger that `args` names and print the result; return the exit status.

    `plan` is the one that the verifier holds.
    """
    data = read_bounded(args.ledger, MAX_LEDGER, "a ledger's file")
    result = verify_ledger(data, policy, trust=trust, now=now, plan=plan)
    if args.json:
        import json

        print(json.dumps({"file": args.ledger, **result.to_json()}, indent=2, ensure_ascii=True))
    else:
        print(ledger_text(result, args.ledger))
    if result.accepted:
        return 0
    print(f"laminator verify: {_advice(result)}", file=sys.stderr)
    return 1


def _advice(result: LedgerResult) -> str:
    failures = {check.id for check in result.failures()}
    if failures == {"ledger.gaps"}:
        return (
            "ask the provider for the runs of the missing numbers, and why they have no card and "
            "no failure record; do not take them for failures"
        )
    return "do not rely on this ledger; ask its provider about the checks that failed"
