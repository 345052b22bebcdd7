"""`laminator run`: run a program under measurement and write its card."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from laminator.cli.run_options import (
    Task,
    absolute,
    build_request,
    configure_common,
    pairs,
    prepare,
)
from laminator.errors import UsageError
from laminator.run.command import parse_command
from laminator.run.driver import FAILURE_STATUS, drive
from laminator.run.request import RunRequest

__all__ = ["FAILURE_STATUS", "HELP", "configure", "prepare", "run"]

HELP = (
    "Run a Python script under measurement and write a card that says what ran, on which data, "
    "and what it reported. Example: laminator run --simulated --input train=adult.data "
    "--output model=model.safetensors -- python train.py --epochs 3. "
    "The script's own exit status is passed on; 125 means that Laminator itself failed."
)
KINDS = ("training", "evaluation", "datasheet")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    configure_common(parser)
    parser.add_argument(
        "--stream",
        metavar="NAME=PATH",
        action="append",
        default=[],
        help="an input that is not copied but read in place, however large: measured first, and "
        "checked chunk by chunk by scripts that read it through laminator.data",
    )
    parser.add_argument("--kind", choices=KINDS, default="training", help="what the card is about")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- python SCRIPT ...", help="what to run"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status, or FAILURE_STATUS for a failure of ours."""
    words = list(args.command)
    if words[:1] != ["--"]:
        raise UsageError("command.dashes", "write -- before the command: -- python SCRIPT")
    command = parse_command(words[1:])
    card = f"{Path(command.argv[command.script]).stem}.card"
    task = Task("run", command.argv, command.script, args.kind, card)
    request = with_streams(build_request(args, task), args.stream)
    return drive(request, attester=args.attester, simulated=args.simulated)


def with_streams(request: RunRequest, words: Sequence[str]) -> RunRequest:
    """Return `request` with the inputs NAME=PATH that are read in place. Raises UsageError."""
    streams = pairs(words, "--stream", absolute)
    twice = sorted(streams.keys() & request.inputs.keys())
    if twice:
        raise UsageError("option.pair", f"{twice[0]} is given by --input and by --stream")
    return request._replace(inputs={**request.inputs, **streams}, in_place=tuple(sorted(streams)))
