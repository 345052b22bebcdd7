"""`laminator policy explain`: what a policy asks, in sentences."""

import argparse

from laminator.appraise.explain import explain
from laminator.appraise.policy import BUILT_IN, load_policy
from laminator.report.text import safe

HELP = "Explain an appraisal policy in sentences. docs/policy.md describes the file."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="explain")
    action = actions.add_parser("explain", help="say in sentences what a policy asks")
    action.add_argument("file", nargs="?", metavar="FILE", help="default: the built-in policy")


def run(args: argparse.Namespace) -> int:
    """Print one sentence a line."""
    policy = BUILT_IN if args.file is None else load_policy(args.file)
    for sentence in explain(policy):
        print(safe(sentence, limit=100_000))
    return 0
