"""`laminator run`: run a program under measurement and write its card."""

import argparse
from pathlib import Path

from laminator.cli.run_options import Task, build_request, configure_common, prepare
from laminator.errors import UsageError
from laminator.run.command import parse_command
from laminator.run.driver import FAILURE_STATUS, drive

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
    return drive(build_request(args, task), attester=args.attester, simulated=args.simulated)
