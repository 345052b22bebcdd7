"""`laminator nonce`: the verifier's own challenges, each for one card."""

import argparse
import contextlib
import datetime as dt
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from laminator.appraise.policy import duration
from laminator.errors import MalformedError, UsageError, shown
from laminator.nonce.store import Entry, add_issued, default_store, entries, time_text
from laminator.report.text import safe

HELP = (
    "Issue a nonce for one card, or list those issued. Send FILE to the prover (`laminator run "
    "--nonce FILE`) and give it to `laminator verify --nonce FILE`: a card with it was made after "
    "the nonce was. Your store keeps when it expires and which card was accepted with it."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="issue|list")
    issue = actions.add_parser("issue", help="make a nonce of 32 random bytes")
    issue.add_argument(
        "--out", metavar="FILE", required=True, help="where to write it: one line of hex"
    )
    issue.add_argument(
        "--valid",
        metavar="DURATION",
        default="7d",
        help="how long a card may take: a number and s, m, h, d or w (default: 7d)",
    )
    listing = actions.add_parser("list", help="list nonces: issued, expires, used by which card")
    for action in (issue, listing):
        action.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(args: argparse.Namespace) -> int:
    """Issue a nonce, or list the store."""
    return _issue(args) if args.action == "issue" else _list(args)


def _issue(args: argparse.Namespace) -> int:
    issued = dt.datetime.now(dt.UTC).replace(microsecond=0)
    expires = _expiry(issued, args.valid)
    with _new_file(args.out) as file:
        nonce = add_issued(default_store(), issued, expires)
        file.write(f"{nonce.hex()}\n".encode())
    if args.json:
        _print_json(_to_json(Entry(nonce, issued, expires, None), issued))
    else:
        print(nonce.hex())
        print(f"expires {time_text(expires)}; for one card; written to {safe(args.out)}")
    return 0


def _expiry(issued: dt.datetime, valid: str) -> dt.datetime:
    try:
        return issued + dt.timedelta(seconds=duration(valid, "--valid"))
    except MalformedError as error:
        raise UsageError("nonce.valid", error.message) from error
    except OverflowError as error:
        raise UsageError("nonce.valid", f"--valid {shown(valid)}: that is too long") from error


@contextlib.contextmanager
def _new_file(path: str) -> Iterator[BinaryIO]:
    """Make the file `path`, which must not be there yet; it stays only if the body succeeds."""
    try:
        with open(path, "xb") as file:  # noqa: PTH123 - as the rest of the verifier's half
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                os.unlink(path)  # noqa: PTH108 - as above
                raise
    except OSError as error:
        reason = (error.strerror or "failed").lower()
        raise UsageError(
            "nonce.out", f"cannot write {shown(path)}: {reason}; name a new file"
        ) from error


def _list(args: argparse.Namespace) -> int:
    now = dt.datetime.now(dt.UTC)
    found = entries(default_store())
    if args.json:
        _print_json({"nonces": [_to_json(entry, now) for entry in found]})
        return 0
    if not found:
        print("laminator nonce: no nonce was issued yet", file=sys.stderr)
    for entry in found:
        print(_line(entry, now))
    return 0


def _line(entry: Entry, now: dt.datetime) -> str:
    times = f"issued {time_text(entry.issued)}  expires {time_text(entry.expires)}"
    use = f" {time_text(entry.use.accepted)} by {entry.use.card}" if entry.use else ""
    return f"{entry.nonce.hex()}  {times}  {_state(entry, now)}{use}"


def _state(entry: Entry, now: dt.datetime) -> str:
    """Return ``used``, ``expired`` or ``open``."""
    if entry.use:
        return "used"
    return "open" if now < entry.expires else "expired"


def _to_json(entry: Entry, now: dt.datetime) -> dict[str, str | None]:
    return {
        "nonce": entry.nonce.hex(),
        "issued": time_text(entry.issued),
        "expires": time_text(entry.expires),
        "state": _state(entry, now),
        "card": str(entry.use.card) if entry.use else None,
        "accepted": time_text(entry.use.accepted) if entry.use else None,
    }


def _print_json(document: object) -> None:
    import json

    print(json.dumps(document, indent=2, ensure_ascii=True))
