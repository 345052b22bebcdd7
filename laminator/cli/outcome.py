"""How a step ends that works on files: written whole, the next command, refusals with codes."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import MalformedError
from laminator.report.text import safe_message
from laminator.run.atomic import write_atomically
from laminator.timestamp.refusal import TimestampRefusedError

REFUSED_STATUS = 1

_ANOTHER = "another challenge for the same request: laminator authority challenge REQUEST"
_WAYS_OUT = {
    "ek.chain": "pin the manufacturer's root: laminator trust --trust MANUFACTURERS add --kind tpm "
    "ROOT.pem; intermediates come with the request: laminator enroll request --ek-certificate FILE",
    "ek.crl": "put a current CRL of each authority above the EK into crls/ of the manufacturers",
    "response.expired": _ANOTHER,
    "response.secret": _ANOTHER,
    "response.unknown": _ANOTHER,
    "timestamp.trust": "pin the authority's root: laminator trust --trust DIR add --kind tsa "
    "ROOT.pem; put a current CRL of each authority above the signer into DIR/crls",
}


class Outcome(NamedTuple):
    """What a verb did: lines for people, facts for programs (JSON values), the next command."""

    lines: tuple[str, ...]
    facts: Mapping[str, Any]
    following: str = ""


def conclude(args: argparse.Namespace, verb: str, work: Callable[[], Outcome]) -> int:
    """Do the work and print its outcome; a refusal or malformed file is status 1, with its code."""
    try:
        outcome = work()
    except (EnrolmentRefusedError, TimestampRefusedError, MalformedError) as error:
        if args.json:
            refusal = {"code": error.code, "message": error.message}
            print(json.dumps({"refused": refusal}))
        message = safe_message(f"{verb}: refused ({error.code}): {error.message}")
        print(f"laminator {message}", file=sys.stderr)
        if error.code in _WAYS_OUT:
            print(f"next: {_WAYS_OUT[error.code]}", file=sys.stderr)
        return REFUSED_STATUS
    if args.json:
        print(json.dumps({**outcome.facts, "next": outcome.following}))
    else:
        print(safe_message("\n".join(outcome.lines)))
        if outcome.following:
            print(safe_message(f"next: {outcome.following}"))
    return 0


def beside(source: str, suffix: str) -> str:
    """Return the path of `source` with another suffix."""
    return str(Path(source).with_suffix(suffix))


def write_output(path: str, content: bytes) -> str:
    """Write the whole file, or nothing; return its path. Raises MachineError."""
    write_atomically(Path(path), content, mode=0o644)
    return path


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
