"""The options that every verb with an attester shares, and the request they make."""

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.cbor import Value
from laminator.cli.nonce_option import METAVAR, parse_nonce
from laminator.cli.plan_options import add_plan_options, plan_fields
from laminator.enroll.ak_label import check_label
from laminator.errors import LaminatorError, UsageError, shown
from laminator.fields import name as parse_name
from laminator.report.text import safe
from laminator.run import run_list
from laminator.run.request import KEYS, RunRequest


class Task(NamedTuple):
    """What a verb adds to the shared options; `inputs` and `outputs` go before the user's."""

    verb: str
    argv: tuple[str, ...]
    script: int
    kind: str
    card: str
    options: Mapping[str, Value] = {}


def prepare(arguments: Sequence[str]) -> list[str]:
    """Give a bare `--simulated` an empty value, so that DIR can only stand after its ``=``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = ["--simulated=" if word == "--simulated" else word for word in arguments[:end]]
    return [*own, *arguments[end:]]


def configure_common(parser: argparse.ArgumentParser) -> None:
    """Add the shared options."""
    _add_statements(parser)
    _add_attester(parser)


def build_request(args: argparse.Namespace, task: Task) -> RunRequest:
    """Return the request of `task` under the shared options. Raises UsageError."""
    return RunRequest(
        verb=task.verb,
        argv=task.argv,
        script=task.script,
        cwd=str(Path.cwd()),
        kind=task.kind,
        card=absolute(args.card or task.card),
        inputs=pairs(args.input, "--input", absolute),
        outputs=pairs(args.output, "--output", absolute),
        cards=pairs(args.card_in, "--card-in", absolute),
        nonce=parse_nonce(args.nonce),
        **plan_fields(args),
        declares=pairs(args.declare, "--declare", str),
        environment=_environment(args.env),
        environment_public=args.env_public,
        network=args.network,
        key=args.ak,
        label=None if args.label is None else check_label(args.label),
        ledger=str(run_list.default_path()),
        ticket=secrets.token_hex(8),
        options=task.options,
    )


def pairs(words: Iterable[str], option: str, read: Callable[[str], str]) -> dict[str, str]:
    """Return NAME=VALUE words as a map. Raises UsageError for another form or a name twice."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value:
            raise UsageError("option.pair", f"{option} {shown(word)}: expected NAME=VALUE")
        if name in found:
            raise UsageError("option.pair", f"{option} {shown(name)} is given twice")
        found[_checked_name(name, option)] = read(value)
    return found


def _add_statements(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    many: dict[str, object] = {"action": "append", "default": []}
    add("--input", metavar="NAME=PATH", help="a file or folder to measure and hand over", **many)  # type: ignore[arg-type]
    add("--output", metavar="NAME=PATH", help="a file or folder that the work makes", **many)  # type: ignore[arg-type]
    add("--card", metavar="OUT", help="where to write the card (default: named after the script)")
    add("--card-in", metavar="NAME=CARD", help="the card of the input NAME (lineage)", **many)  # type: ignore[arg-type]
    add("--nonce", metavar=METAVAR, help="the verifier's challenge: 8 to 64 bytes, or a file")
    add("--declare", metavar="KEY=VALUE", help="a statement in your own word", **many)  # type: ignore[arg-type]
    add_plan_options(parser)


def _add_attester(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--env",
        metavar="NAME",
        action="append",
        default=[],
        help="pass this environment variable to the work and measure it (beside PATH, LANG, TZ, "
        "TERM and the thread limits); others are dropped",
    )
    add(
        "--env-public",
        action="store_true",
        help="put arguments and environment into the card as text, not as commitments",
    )
    add("--network", action="store_true", help="leave the network reachable; the card says so")
    add("--ak", choices=KEYS, default="ecc", help="the attestation key: ECDSA P-256 or RSA-2048")
    add("--label", metavar="LABEL", help="the attestation key that was enrolled for LABEL")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--attester", metavar="auto|tpm:TCTI", default="auto", help="where to run")
    where.add_argument(
        "--simulated",
        nargs="?",
        const="",
        metavar="DIR",
        help="run on a simulated machine, kept in DIR (write --simulated=DIR) or in your state "
        "folder; its cards prove nothing about hardware",
    )


def absolute(path: str) -> str:
    """Return `path` from the root, its links kept. Raises UsageError."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UsageError("option.path", f"{shown(path)} is no UTF-8; rename it") from error
    return str(Path(os.path.abspath(path)))  # noqa: PTH100 - keeps links as they are


def _checked_name(name: str, option: str) -> str:
    try:
        return parse_name(name, option)
    except LaminatorError as error:
        raise UsageError("option.name", error.message) from error


def _environment(names: Sequence[str]) -> dict[str, str]:
    from laminator.measure.environment import KEPT, select_environment

    chosen = select_environment(os.environ, names, home=Path.home())
    for warning in chosen.warnings:
        print(f"laminator: {safe(warning)}", file=sys.stderr)
    passed = {*KEPT, *names}
    return {name: value for name, value in chosen.values.items() if name in passed}
