"""An authority's passphrase: from a file, from the environment, or asked for on the terminal."""

import argparse
import getpass
import os
import warnings
from pathlib import Path

from laminator.errors import UsageError, shown

_MAX_FILE = 4096


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the passphrase is; without one it is asked for."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--passphrase-file", metavar="FILE", help="the key's passphrase: the file's first line"
    )
    where.add_argument(
        "--passphrase-env", metavar="NAME", help="the environment variable with the passphrase"
    )


def read_passphrase(args: argparse.Namespace, *, new: bool = False) -> bytes:
    """Return the passphrase; a new one is asked for twice. Raises UsageError where there is none.

    Bytes of a file and of the environment are taken as they are, typed text as UTF-8.
    """
    if args.passphrase_file is not None:
        found = _first_line(args.passphrase_file)
    elif args.passphrase_env is not None:
        found = os.environb.get(os.fsencode(args.passphrase_env), b"")
    else:
        found = _ask("passphrase of the authority's key: ")
        if new and _ask("the same again: ") != found:
            raise UsageError("authority.passphrase", "the two passphrases differ")
    if not found:
        raise UsageError("authority.passphrase", "the passphrase is empty")
    return found


def _first_line(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_FILE).partition(b"\n")[0].removesuffix(b"\r")
    except OSError as error:
        message = f"cannot read {shown(path)}: {error.strerror}"
        raise UsageError("authority.passphrase", message) from error


def _ask(prompt: str) -> bytes:
    try:
        with warnings.catch_warnings():
            # Without a terminal getpass would show what is typed.
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(prompt).encode()
    except (EOFError, getpass.GetPassWarning) as error:
        message = "no terminal to ask on: --passphrase-file FILE or --passphrase-env NAME"
        raise UsageError("authority.passphrase", message) from error
