"""`laminator reference`: reference values of code and of launches, and what changed in them."""

import argparse
import json

from laminator.cli import reference_compare, reference_sources

HELP = (
    "Compute reference values. `launch` prints the digest that a measured launch of this "
    "installation's attester has, wherever it is installed: put it under [reference] launch in a "
    "policy. `from-...` writes a file of the digests of code, for `laminator verify --reference`: "
    "`from-wheels` and `from-deb` from published packages; `from-directory` from sources; "
    "`from-interpreter`, `from-environment`, `from-files` and `from-card` from what is here, "
    "trusted because it is here. `merge` puts files together, `diff` says what changed between "
    "two (exit status 1: something did). docs/reference.md describes them."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    launch = actions.add_parser("launch", help="print this installation's launch digest")
    launch.add_argument("--json", action="store_true", help="print the answer as JSON")
    launch.set_defaults(work=_launch)
    reference_sources.add_actions(actions)
    reference_compare.add_actions(actions)


def run(args: argparse.Namespace) -> int:
    """Do what the action says; return the exit status."""
    status: int = args.work(args)
    return status


def _launch(args: argparse.Namespace) -> int:
    from laminator.measure.attester_code import launch_digest, own_installation

    digest = launch_digest(own_installation())
    print(json.dumps({"launch": str(digest)}) if args.json else digest)
    return 0
