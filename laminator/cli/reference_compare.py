"""`laminator reference merge` and `diff`: several files of reference values at once."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from laminator.cli.outcome import REFUSED_STATUS, add_json
from laminator.cli.reference_sources import Made, write_values
from laminator.errors import MalformedError, UsageError, shown
from laminator.reading import read_bounded
from laminator.reference import MAX_REFERENCE, ReferencePackage, parse_reference
from laminator.report.text import safe

if TYPE_CHECKING:
    from laminator.cli.reference_sources import Actions
    from laminator.references.differences import PackageChange

CARD_SUFFIX = ".card"
_SHOWN = 20


def add_actions(actions: "Actions") -> None:
    """Add `merge` and `diff`."""
    merge = actions.add_parser("merge", help="put several files of reference values into one")
    merge.add_argument("files", nargs="+", metavar="FILE", help="files of reference values")
    merge.add_argument("--out", metavar="FILE", required=True, help="the file to write, a .ref")
    merge.add_argument("--title", metavar="TEXT", default="", help="your name for the values")
    add_json(merge)
    merge.set_defaults(work=lambda args: write_values(args, _merge))
    diff = actions.add_parser("diff", help="say what changed between two; exit status 1: something")
    diff.add_argument("before", metavar="A", help="reference values, or a .card")
    diff.add_argument("after", metavar="B", help="reference values, or a .card")
    add_json(diff)
    diff.set_defaults(work=_diff)


def _merge(args: argparse.Namespace) -> Made:
    return Made([package for path in args.files for package in _load(path)])


def _diff(args: argparse.Namespace) -> int:
    from laminator.references.differences import compare

    changes = compare(_load(args.before), _load(args.after))
    if args.json:
        print(json.dumps({"equal": not changes, "packages": [each._asdict() for each in changes]}))
    else:
        for each in changes:
            print("\n".join(_lines(each)))
        print(f"{len(changes)} packages changed" if changes else "equal: same packages, same files")
    return REFUSED_STATUS if changes else 0


def _load(path: str) -> Sequence[ReferencePackage]:
    """Read a file's packages. Raises UsageError, which is no answer to what changed."""
    try:
        if path.endswith(CARD_SUFFIX):
            from laminator.cli.card_files import read_cards
            from laminator.references.cards import read_card

            return [package for card in read_cards(path) for package in read_card(card.data)]
        data = read_bounded(path, MAX_REFERENCE, "a file of `laminator reference`")
        return parse_reference(data).packages
    except MalformedError as error:
        message = (
            f"{shown(path)}: {error.message}; name a file of `laminator reference`, or a .card"
        )
        raise UsageError("reference.file", message) from error


def _lines(change: "PackageChange") -> list[str]:
    before, after = (", ".join(filter(None, each)) for each in (change.before, change.after))
    if not change.before or not change.after:
        word = "added" if change.after else "removed"
        number = len(change.added or change.removed)
        return [f"{_words(word, change.name, after or before)}: {number} files"]
    versions = after if before == after else f"{before} -> {after}"
    lines = [_words("changed", change.name, versions)]
    for sign, paths in (("+", change.added), ("-", change.removed), ("~", change.modified)):
        lines += [f"  {sign} {safe(path)}" for path in paths[:_SHOWN]]
        if len(paths) > _SHOWN:
            lines.append(f"  {sign} and {len(paths) - _SHOWN} more (--json lists them all)")
    return lines


def _words(*words: str) -> str:
    return " ".join(safe(word) for word in words if word)
