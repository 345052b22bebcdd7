"""`laminator timestamp`: a token (RFC 3161) for a finished card or for a plan."""

import argparse
import datetime as dt
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.card import parse_card
from laminator.cli import run_options
from laminator.cli.card_files import BUNDLE_SUFFIX, read_cards
from laminator.cli.outcome import Outcome, add_json, conclude, write_output
from laminator.errors import UsageError, shown
from laminator.evidence.timestamp_reply import MAX_REPLY
from laminator.plan import MAX_PLAN_BYTES, parse_plan
from laminator.reading import read_limited
from laminator.timestamp.answer import Stamp, check_answer
from laminator.timestamp.query import HASHES, MAX_QUERY, make_query, parse_query
from laminator.timestamp.refusal import TimestampRefusedError
from laminator.timestamp.server import ask
from laminator.timestamp.subject import (
    PLAN_SUFFIX,
    RESPONSE_SUFFIX,
    Subject,
    card_subject,
    check_place,
    check_request_place,
    plan_subject,
    write_stamped,
)

HELP = (
    "Have a card time-stamped, after the fact and without a change of its id, or a plan (.toml) "
    "before its runs. `laminator timestamp FILE --tsa URL` asks an authority and puts its token "
    "into the card, or beside the plan as .tsr. Where there is no network: `laminator timestamp "
    "request FILE --out REQ.tsq`, have an authority answer REQ.tsq with RESP.tsr, `laminator "
    "timestamp attach FILE RESP.tsr`. Exit status 1: the response is refused, nothing is written."
)

_STAMP = "stamp"
_FIRST_WORDS = ("request", "attach", _STAMP, "-h", "--help")

Facts = dict[str, object]


class _Answer(NamedTuple):
    """A response and the nonce that was asked with, if it is known."""

    reply: bytes
    nonce: int | None


def prepare(arguments: Sequence[str]) -> list[str]:
    """Put in the action `stamp` where none is named, and keep a bare `--simulated` bare."""
    words = run_options.prepare(arguments)
    return words if words[:1] and words[0] in _FIRST_WORDS else [_STAMP, *words]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="[stamp]|request|attach")
    stamp = actions.add_parser(_STAMP, help="ask an authority now (the action may be left out)")
    request = actions.add_parser("request", help="write a request, for an authority elsewhere")
    attach = actions.add_parser("attach", help="take an authority's response to a request")
    for action in (stamp, request, attach):
        action.add_argument("file", metavar="CARD|PLAN.toml", help="a card, or a plan")
    _add_authority(stamp)
    attach.add_argument("response", metavar="RESP.tsr", help="what the authority answered")
    attach.add_argument("--request", metavar="REQ.tsq", help="also hold it against this request")
    for action in (stamp, request):
        action.add_argument("--hash", choices=HASHES, default="sha256", help="the imprint's hash")
    request.add_argument("--out", metavar="REQ.tsq", required=True, help="where to write it")
    for action in (stamp, attach):
        action.add_argument(
            "--out",
            metavar="FILE",
            help="write the stamped card here and leave CARD as it is; for a plan where the "
            f"response goes (default: PLAN{RESPONSE_SUFFIX})",
        )
        action.add_argument(
            "--trust",
            metavar="DIR",
            help="also check the authority by the anchors (tsa, tsa-simulated) and CRLs in DIR, "
            "as verifiers will",
        )
    for action in (stamp, request, attach):
        add_json(action)


def run(args: argparse.Namespace) -> int:
    """Do one step; a response that is refused is status 1."""
    work = {_STAMP: _stamp, "request": _request, "attach": _attach}[args.action]
    return conclude(args, f"timestamp {args.action}", lambda: work(args))


def _add_authority(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--tsa", metavar="URL", help="an authority's http or https address")
    where.add_argument(
        "--simulated",
        nargs="?",
        const="",
        metavar="DIR",
        help="the authority of the simulated machine in DIR (write --simulated=DIR) or in your "
        "state folder; its tokens prove nothing about time",
    )


def _stamp(args: argparse.Namespace) -> Outcome:
    subject = _subject(args.file)
    place = check_place(subject, _path(args.out))
    query = make_query(subject.message, args.hash)
    reply = _simulated(args.simulated, query.der) if args.tsa is None else ask(args.tsa, query.der)
    asked = _Answer(reply, query.nonce)
    return _take(args, _subject(args.file), place, asked)  # as it is by now


def _request(args: argparse.Namespace) -> Outcome:
    subject = _subject(args.file)
    check_request_place(Path(args.out))
    out = write_output(args.out, make_query(subject.message, args.hash).der)
    attach = ["laminator", "timestamp", "attach", args.file, "RESP.tsr", "--request", out]
    return Outcome(
        (f"wrote {out}: a request for {subject.kind} {subject.id}",),
        {"request": out, "kind": subject.kind, "id": str(subject.id)},
        f"have an authority answer it with RESP.tsr, then {shlex.join(attach)}",
    )


def _attach(args: argparse.Namespace) -> Outcome:
    subject = _subject(args.file)
    place = check_place(subject, _path(args.out))
    nonce = None
    if args.request is not None:
        query = parse_query(read_limited(args.request, MAX_QUERY))
        if not query.is_over(subject.message):
            detail = f"{shown(args.request)} asks about something else than {shown(args.file)}"
            raise UsageError("timestamp.request", f"{detail}: name the request that was made of it")
        nonce = query.nonce
    reply = read_limited(args.response, MAX_REPLY)
    return _take(args, subject, place, _Answer(reply, nonce))


def _take(args: argparse.Namespace, subject: Subject, place: Path, answer: _Answer) -> Outcome:
    """Check an answer and write it."""
    stamp = check_answer(answer.reply, subject.message, answer.nonce)
    lines, facts = _chain(args.trust, answer.reply, subject.message)
    write_stamped(subject, answer.reply, place)
    time = _time_text(stamp.time)
    return Outcome(
        (f"wrote {place}: {subject.kind} {subject.id} with a time-stamp of {time}", *lines),
        {"kind": subject.kind, "id": str(subject.id), "file": str(place), **_facts(stamp), **facts},
        _following(subject, place),
    )


def _chain(trust: str | None, reply: bytes, message: bytes) -> tuple[tuple[str, ...], Facts]:
    """Say whose word the time is, by the caller's own trust store where one is named.

    Raises TimestampRefusedError where that store does not bear it.
    """
    if trust is None:
        words = "authority: not checked here; laminator verify does, by the verifier's anchors"
        return (words,), {"chain": "not-checked"}
    from laminator.appraise.check import FAIL, PASS
    from laminator.appraise.timestamps import appraise_token
    from laminator.appraise.trust import load_trust

    judged = appraise_token(reply, message, load_trust(trust), dt.datetime.now(dt.UTC))
    if judged.verified is None:
        fails = [each for each in judged.checks if each.verdict == FAIL]
        bad = fails or [each for each in judged.checks if each.verdict != PASS]
        words = "; ".join(f"{each.id}: {each.detail}" for each in bad)
        raise TimestampRefusedError("timestamp.trust", f"by {shown(trust)}, {words}")
    kind = "simulated " if judged.verified.simulated else ""
    words = f"authority: {kind}{judged.verified.authority}, under {judged.verified.anchor}"
    facts = {"anchor": str(judged.verified.anchor), "simulated": judged.verified.simulated}
    return (words,), {"chain": "checked", "authority": judged.verified.authority, **facts}


def _facts(stamp: Stamp) -> Facts:
    return {
        "time": _time_text(stamp.time),
        "serial": f"{stamp.serial:x}",
        "tsa-policy": stamp.policy,
        "response": str(stamp.digest),
    }


def _following(subject: Subject, place: Path) -> str:
    if subject.card is None:
        return ""
    return f"laminator verify {shlex.quote(str(place))}"


def _subject(name: str) -> Subject:
    """Read a card or a plan. Raises UsageError, MalformedError."""
    path = Path(name)
    if path.suffix == BUNDLE_SUFFIX:
        detail = "a bundle is not stamped as one: stamp its cards, then cat A.card B.card > X.cards"
        raise UsageError("timestamp.bundle", detail)
    if path.suffix == PLAN_SUFFIX:
        content = read_limited(name, MAX_PLAN_BYTES)
        parse_plan(content)
        return plan_subject(path, content)
    (file,) = read_cards(name)
    return card_subject(path, parse_card(file.data))


def _simulated(folder: str, query: bytes) -> bytes:
    """Ask the authority of a simulated machine, made where there is none yet."""
    from enclave_sim.client import ensure_made
    from enclave_sim.timestamp_authority import machine_authority

    return machine_authority(ensure_made(_path(folder or None))).reply(query)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _time_text(time: dt.datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
