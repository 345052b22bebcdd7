"""`laminator show`: print a card without verifying it."""

import argparse
import sys

from laminator.card import Card, parse_card
from laminator.cli.card_files import CardFile, read_cards
from laminator.errors import MalformedError
from laminator.report.card_text import NOT_VERIFIED, card_text
from laminator.report.text import safe, safe_message

HELP = "Print what a card says, without verifying it. `laminator verify` verifies."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("card", metavar="CARD", help="a .card, or a .cards bundle")
    parser.add_argument("--json", action="store_true", help="print the content as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the card; return 1 where it cannot be parsed."""
    files = read_cards(args.card)
    try:
        cards = [(file, parse_card(file.data)) for file in files]
    except MalformedError as error:
        message = f"not a card: {error.message}; ask whoever sent it for the original file"
        print(f"laminator show: {safe(args.card)}: {safe_message(message)}", file=sys.stderr)
        return 1
    if args.json:
        _print_json(cards)
    else:
        print(NOT_VERIFIED)
        for file, card in cards:
            print(f"\n{safe(file.name)}\n{card_text(card)}")
    return 0


def _print_json(cards: list[tuple[CardFile, Card]]) -> None:
    import json

    from laminator.report.export import card_to_json

    documents = [{"file": file.name, **card_to_json(card)} for file, card in cards]
    text = {"verified": False, "note": NOT_VERIFIED, "cards": documents}
    print(json.dumps(text, indent=2, ensure_ascii=True))
