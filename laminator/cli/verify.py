"""`laminator verify`: verify cards offline against a policy."""

import argparse
import datetime as dt
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from laminator.appraise.artifacts import measure_artifact
from laminator.appraise.check import FAIL
from laminator.appraise.policy import BUILT_IN, TIMES, Policy, load_policy
from laminator.appraise.result import VerificationResult
from laminator.appraise.trust import TSA_KINDS, TrustStore, default_store, load_crls, load_trust
from laminator.appraise.verify import verify_all
from laminator.cli.card_files import CardFile, read_cards
from laminator.cli.code_options import add_code_options, read_approved, read_references
from laminator.cli.nonce_option import METAVAR, parse_nonce
from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError, shown
from laminator.nonce.use import judge_with_nonce
from laminator.reading import read_bounded, read_limited

if TYPE_CHECKING:
    from laminator.reference import ReferenceValues

HELP = (
    "Verify cards, or a ledger of runs, offline. Exit status 0: all accepted; 1: one is rejected "
    "or unreadable; 2: wrong usage, or a file that cannot be opened."
)

_RFC3339 = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"


class Request(NamedTuple):
    """The command's arguments, read."""

    cards: Sequence[CardFile]
    policy: Policy
    trust: TrustStore
    now: dt.datetime
    nonce: bytes | None
    artifacts: Mapping[str, Digest]
    lineage: Sequence[CardFile]
    plan: bytes | None
    references: Sequence["ReferenceValues"]
    endorsements: Sequence[bytes]
    approved_code: frozenset[Digest]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    _add_subjects(parser)
    parser.add_argument(
        "--trust", metavar="DIR|FILE", help="trust anchors and CRLs (default: your own store)"
    )
    parser.add_argument("--policy", metavar="FILE.toml", help="default: the strict built-in policy")
    parser.add_argument(
        "--artifact",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a file or folder that has to be the cards' input or output NAME",
    )
    parser.add_argument(
        "--nonce",
        metavar=METAVAR,
        help="the nonce that the card has to hold; one of `laminator nonce issue` is for one card",
    )
    add_code_options(parser)
    parser.add_argument(
        "--endorsement",
        action="append",
        default=[],
        metavar="FILE",
        help="an endorsement of a measurer, or a list of those withdrawn, of `laminator endorse`",
    )
    _add_times(parser)
    _add_more(parser)
    parser.add_argument("--json", action="store_true", help="print results as JSON")


def _add_more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--collateral",
        action="append",
        default=[],
        metavar="DIR|FILE",
        help="more certificate revocation lists",
    )
    parser.add_argument(
        "--lineage",
        action="append",
        default=[],
        metavar="CARD",
        help="a card that CARD builds on: judged for trust, code and revocation as part of CARD's "
        "lineage, not for what the policy asks of CARD itself",
    )


def _add_subjects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cards", nargs="*", metavar="CARD", help="a .card, or a .cards bundle")
    parser.add_argument(
        "--ledger",
        metavar="FILE",
        help="in place of cards: a ledger of runs, whose every number has to be an accepted card "
        "or failure record",
    )
    parser.add_argument(
        "--plan",
        metavar="PLAN.toml",
        help="the plan that the cards have to follow (default: the one that each carries, if its "
        "digest is in the claims); with --ledger, one that its runs follow, no more than planned",
    )


def _add_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at",
        metavar="RFC3339",
        help="judge at this time, such as 2026-01-31T12:00:00Z (default: now); it proves nothing "
        "about when the card was made",
    )
    parser.add_argument(
        "--as-of",
        choices=TIMES,
        metavar="now|token",
        help="which verdict decides for a card with a time-stamp: at the time of judging, or as of "
        "the token, where what expired or was superseded since does not count (default: what the "
        "policy says, else now)",
    )


def run(args: argparse.Namespace) -> int:
    """Verify the cards and print the results; return the exit status."""
    if args.ledger is not None:
        return _run_ledger(args)
    if not args.cards:
        raise UsageError("verify.nothing", "name a card to verify, or a ledger with --ledger")
    request = _request(args)
    results = judge_with_nonce(
        request.nonce,
        lambda issued: verify_all(
            [card.data for card in request.cards],
            request.policy,
            trust=request.trust,
            now=request.now,
            nonce=request.nonce,
            issued=issued,
            artifacts=request.artifacts,
            plan=request.plan,
            other_cards=[card.data for card in request.lineage],
            references=request.references,
            endorsements=request.endorsements,
            approved_code=request.approved_code,
        ),
    )
    if args.json:
        _print_json(results, request.cards)
    else:
        _print_text(results, request.cards)
    rejected = [result for result in results if not result.accepted]
    if rejected:
        print(advice(rejected), file=sys.stderr)
    return 1 if rejected else 0


def _run_ledger(args: argparse.Namespace) -> int:
    from laminator.cli.verify_ledger import check_arguments, judge_ledger

    check_arguments(args)
    trust = _trust(args.trust, args.collateral)
    policy = _policy(args.policy, args.as_of, trust)
    return judge_ledger(args, policy, trust, parse_time(args.at), _plan(args.plan))


def advice(rejected: Sequence[VerificationResult]) -> str:
    """Return what to do next about rejected cards."""
    hints = dict.fromkeys(hint for result in rejected for hint in _hints(result))
    return "\n".join(f"laminator verify: {hint}" for hint in (hints or [_NO_ADVICE]))


def _hints(result: VerificationResult) -> list[str]:
    """Return hints, none where the card itself is wrong: what a policy misses follows from it."""
    failures = result.failures()
    wrong = {check.id for check in failures if check.verdict == FAIL} - _ADVICE.keys()
    if any(not id_.startswith(("policy.", "lineage.")) for id_ in wrong):
        return []
    ids = {check.id for check in failures}
    return [hint for id_, hint in _ADVICE.items() if id_ in ids]


_NO_ADVICE = "do not rely on a rejected card; ask its provider about the checks that failed"
_ADVICE = {
    "ak.chain": "if you trust the machine's anchor, give it with --trust, or keep it with "
    "`laminator trust add`",
    "policy.require.ak.revocation": "give current CRLs with --collateral, or in the trust "
    "folder's crls/",
    "policy.root": "the policy does not accept this kind of root; name it in a policy file's "
    "`roots` only if you rely on it",
    "policy.coverage": "name the attester's reference values in a policy file; `laminator "
    "reference launch` computes them",
    "policy.require.plan.digest": "give the plan that the card's claims name with --plan",
    "policy.require.plan.token": "pin the time-stamping authority's root, if you trust it, with "
    "`laminator trust add --kind tsa`, and give its CRLs with --collateral",
    "policy.require.plan.seed": "give the nonce that you sent to the provider with --nonce; it has "
    "to be newer than the plan's time-stamp",
    "policy.nonce": "give the nonce that you sent to the provider with --nonce",
    "nonce.expiry": "issue another nonce with `laminator nonce issue` and ask for a card with it",
    "nonce.use": "a nonce is for one card; issue another for each further card that you ask for",
    "policy.unknown-code": "give the published code's reference values with --reference "
    "(`laminator reference from-wheels --lock FILE --out FILE.ref` makes them), and approve files "
    "that you have read with --allow-code FILE",
    "policy.code.modified": "give the reference values of the versions that ran with --reference; "
    "a file that differs from its own version was changed after it was published",
    "policy.data-chosen-by": "name the data's digest under [reference] data in a policy file if "
    "you chose it",
}


def _request(args: argparse.Namespace) -> Request:
    trust = _trust(args.trust, args.collateral)
    return Request(
        cards=[card for path in args.cards for card in read_cards(path)],
        policy=_policy(args.policy, args.as_of, trust),
        trust=trust,
        now=parse_time(args.at),
        nonce=parse_nonce(args.nonce),
        artifacts=_artifacts(args.artifact),
        lineage=[card for path in args.lineage for card in read_cards(path)],
        plan=_plan(args.plan),
        references=read_references(args.reference),
        endorsements=[read_limited(path, 2**21) for path in args.endorsement],
        approved_code=read_approved(args.allow_code),
    )


def _plan(path: str | None) -> bytes | None:
    """Return the content of the verifier's own plan. Raises UsageError for one that is none."""
    if path is None:
        return None
    from laminator.plan import MAX_PLAN_BYTES, parse_plan

    content = read_bounded(path, MAX_PLAN_BYTES, "a plan")
    try:
        parse_plan(content)
    except MalformedError as error:
        raise UsageError("verify.plan", f"--plan {shown(path)}: {error.message}") from error
    return content


def _policy(path: str | None, as_of: str | None, trust: TrustStore) -> Policy:
    policy = BUILT_IN if path is None else load_policy(path)
    if as_of == "token" and not any(anchor.kind in TSA_KINDS for anchor in trust.anchors):
        raise UsageError(
            "verify.as-of",
            "--as-of token: no anchor of a time-stamping authority is pinned, so no token proves "
            "a time; pin one with `laminator trust add --kind tsa FILE`",
        )
    return policy if as_of is None else policy._replace(judged_as_of=as_of)


def _trust(path: str | None, collateral: Sequence[str]) -> TrustStore:
    import os

    if path is None and not os.path.isdir(default_store()):  # noqa: PTH112 - pathlib costs start
        raise UsageError(
            "trust.none",
            f"no trust anchors: {default_store()} does not exist; give --trust, or pin an "
            "anchor with `laminator trust add --kind KIND FILE`",
        )
    store = load_trust(path or default_store())
    return store.with_crls(tuple(crl for each in collateral for crl in load_crls(each)))


def parse_time(text: str | None) -> dt.datetime:
    """Parse an RFC 3339 time, to UTC; without one, return the clock's.

    Raises UsageError.
    """
    if text is None:
        return dt.datetime.now(dt.UTC)
    try:
        time = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        time = None
    if time is None or not re.fullmatch(_RFC3339, text):
        example = "2026-01-31T12:00:00Z"
        raise UsageError("verify.at", f"--at: expected a time like {example}, got {shown(text)}")
    return time


def _artifacts(words: Sequence[str]) -> dict[str, Digest]:
    found: dict[str, Digest] = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not (name and separator and path) or name in found:
            wanted = "NAME=PATH, each NAME once"
            raise UsageError("verify.artifact", f"--artifact: expected {wanted}, got {shown(word)}")
        found[name] = measure_artifact(path)
    return found


def _print_text(results: Sequence[VerificationResult], cards: Sequence[CardFile]) -> None:
    from laminator.report.result_text import result_text, verdict_line

    reports = [result_text(*pair) for pair in zip(results, [c.name for c in cards], strict=True)]
    print("\n\n".join(reports))
    if len(results) > 1:
        print("\nin short")
        for result, card in zip(results, cards, strict=True):
            print(f"  {verdict_line(result, card.name)}")


def _print_json(results: Sequence[VerificationResult], cards: Sequence[CardFile]) -> None:
    import json

    documents = [
        {"file": card.name, **result.to_json()} for result, card in zip(results, cards, strict=True)
    ]
    print(json.dumps({"results": documents}, indent=2, ensure_ascii=True))
