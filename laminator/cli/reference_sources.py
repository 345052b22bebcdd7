"""`laminator reference from-...`: a file of reference values from each source of code."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from laminator.cli.outcome import Outcome, add_json, conclude, write_output
from laminator.digest import sha256
from laminator.reference import ReferencePackage
from laminator.report.code_text import package_to_json
from laminator.run.progress import working

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Actions = _SubParsersAction[argparse.ArgumentParser]

_PYTHON = "python"
_AS_IT_IS = "trust on first use: these are the files as they are here, whoever put them here"


class Made(NamedTuple):
    """Packages of reference values and what to say about them, one sentence each."""

    packages: Sequence[ReferencePackage]
    remarks: tuple[str, ...] = ()


def add_actions(actions: "Actions") -> None:
    """Add one action for each source."""
    wheels = _add(actions, "from-wheels", _from_wheels, "from published wheels that a lock names")
    wheels.add_argument(
        "--lock", metavar="FILE", required=True, help="pylock.toml, or requirements with hashes"
    )
    wheels.add_argument(
        "--wheels", metavar="DIR", help="the wheels; default: pip downloads those for this Python"
    )
    debs = _add(actions, "from-deb", _from_deb, "from Debian packages")
    debs.add_argument("debs", nargs="+", metavar="FILE.deb", help="from `apt-get download NAME`")
    folder = _add(actions, "from-directory", _from_directory, "from a folder of sources")
    folder.add_argument("folder", metavar="DIR", help="the folder")
    folder.add_argument(
        "--label",
        default="script",
        help="what a log calls the folder: script (default), or source/NAME if it is installed "
        "editable",
    )
    interpreter = _add(actions, "from-interpreter", _from_interpreter, "from an installed Python")
    environment = _add(actions, "from-environment", _from_environment, "from installed packages")
    files = _add(actions, "from-files", _from_files, "from single files, such as libraries")
    for parser in (interpreter, environment, files):
        parser.add_argument(
            "--python", metavar="PATH", default=_PYTHON, help="default: python on PATH"
        )
    files.add_argument("files", nargs="+", metavar="FILE", help="a file that a run loads")
    card = _add(actions, "from-card", _from_card, "from the code that a card's run loaded")
    card.add_argument("cards", nargs="+", metavar="CARD", help="cards, which are not verified here")


def _add(
    actions: "Actions", name: str, make: Callable[[argparse.Namespace], Made], summary: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=f"reference values {summary}")
    parser.add_argument("--out", metavar="FILE", required=True, help="the file to write, a .ref")
    parser.add_argument("--title", metavar="TEXT", default="", help="your name for the values")
    add_json(parser)
    parser.set_defaults(work=lambda args: write_values(args, make))
    return parser


def write_values(args: argparse.Namespace, make: Callable[[argparse.Namespace], Made]) -> int:
    """Write what `make` makes to `args.out`; return the exit status."""

    def work() -> Outcome:
        from laminator.references.packing import encode

        with working("reading and hashing"):
            made = make(args)
        encoded = encode(args.title, made.packages)
        path = write_output(args.out, encoded)
        return _outcome(path, encoded, made)

    return conclude(args, "reference", work)


def _outcome(path: str, encoded: bytes, made: Made) -> Outcome:
    listed = sorted(set(made.packages), key=lambda each: (each.name, each.version, each.paths))
    lines = [f"{_title(each)}: {len(each.paths)} files" for each in listed]
    total = sum(len(each.paths) for each in listed)
    lines += [f"note: {remark}" for remark in made.remarks]
    lines.append(f"{path}: {len(listed)} packages, {total} files, {sha256(encoded)}")
    facts: dict[str, Any] = {
        "file": path,
        "digest": str(sha256(encoded)),
        "packages": [_facts(each) for each in listed],
        "notes": list(made.remarks),
    }
    return Outcome(tuple(lines), facts, f"laminator verify --reference {path} CARD")


def _title(package: ReferencePackage) -> str:
    return " ".join(part for part in (package.name, package.version, f"({package.kind})") if part)


def _facts(package: ReferencePackage) -> dict[str, Any]:
    return {**package_to_json(package), "files": len(package.paths)}


def _from_wheels(args: argparse.Namespace) -> Made:
    from laminator.references.downloads import download_wheels, list_wheels
    from laminator.references.locks import load_lock
    from laminator.references.wheels import read_wheel

    lock = load_lock(args.lock)
    with tempfile.TemporaryDirectory(prefix="laminator-wheels-") as folder:
        paths = list_wheels(args.wheels) if args.wheels else download_wheels(lock, Path(folder))
        packages = [read_wheel(path, lock) for path in paths]
    read = {package.name for package in packages}
    absent = {wheel.name for wheel in lock.wheels} - read
    remarks = [f"the lock's {name} has no wheel here: its files are unknown" for name in absent]
    remarks += [
        f"the lock has no wheel of {name}: what is built of its sources is unknown"
        for name in lock.without_wheel
    ]
    return Made(packages, tuple(sorted(remarks)))


def _from_deb(args: argparse.Namespace) -> Made:
    from laminator.references.debs import read_deb

    return Made([read_deb(path) for path in args.debs])


def _from_directory(args: argparse.Namespace) -> Made:
    from laminator.references.folders import read_folder

    name = args.title or Path(args.folder).resolve().name or args.label
    return Made([read_folder(args.folder, args.label, name)])


def _from_interpreter(args: argparse.Namespace) -> Made:
    from laminator.references.interpreters import read_interpreter

    return Made([read_interpreter(args.python)], (_AS_IT_IS,))


def _from_environment(args: argparse.Namespace) -> Made:
    from laminator.references.environments import read_environment

    installed = read_environment(args.python)
    return Made(installed.packages, (_AS_IT_IS, *installed.differences))


def _from_files(args: argparse.Namespace) -> Made:
    from laminator.references.folders import read_files
    from laminator.references.interpreters import find_interpreter, roots_without_script

    roots = roots_without_script(find_interpreter(args.python))
    return Made([read_files(args.files, roots, args.title or "files")], (_AS_IT_IS,))


def _from_card(args: argparse.Namespace) -> Made:
    from laminator.cli.card_files import read_cards
    from laminator.references.cards import read_card

    cards = [file for path in args.cards for file in read_cards(path)]
    packages = [package for file in cards for package in read_card(file.data)]
    return Made(packages, ("trust on first use: the code that this run loaded, not verified",))
