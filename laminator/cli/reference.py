"""`laminator reference`: reference values, computed from what is installed here."""

import argparse

HELP = (
    "Compute reference values from this installation. `launch` prints the digest that a measured "
    "launch of this installation's attester has, wherever it is installed: put it under "
    "[reference] launch in a policy."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("what", choices=("launch",), help="which reference value")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the reference value."""
    from laminator.measure.attester_code import launch_digest, own_installation

    digest = launch_digest(own_installation())
    if args.json:
        import json

        print(json.dumps({args.what: str(digest)}))
    else:
        print(digest)
    return 0
