"""The options of `verify` for code: reference values, and files that the verifier approves."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from laminator.digest import SIZES, Digest, parse_digest
from laminator.errors import MalformedError, UsageError, shown

if TYPE_CHECKING:
    from laminator.reference import ReferenceValues


def add_code_options(parser: argparse.ArgumentParser) -> None:
    """Add `--reference` and `--allow-code`."""
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="FILE.ref",
        help="reference values of code that you believe, made by `laminator reference`",
    )
    parser.add_argument(
        "--allow-code",
        action="append",
        default=[],
        metavar="DIGEST|FILE",
        help="a file of code that you approve: its digest, such as sha-256:…, or the file itself",
    )


def read_references(paths: Sequence[str]) -> tuple["ReferenceValues", ...]:
    """Read files of reference values. Raises UsageError."""
    return tuple(map(_reference, paths))


def read_approved(words: Sequence[str]) -> frozenset[Digest]:
    """Return the digests that `words` state, or those of the files that they name.

    Raises UsageError.
    """
    return frozenset(map(_approved, words))


def _reference(path: str) -> "ReferenceValues":
    from laminator.reading import read_bounded
    from laminator.reference import MAX_REFERENCE, parse_reference

    data = read_bounded(path, MAX_REFERENCE, "a file of `laminator reference`")
    try:
        return parse_reference(data)
    except MalformedError as error:
        message = f"--reference {shown(path)}: {error.message}; make it with `laminator reference`"
        raise UsageError("verify.reference", message) from error


def _approved(word: str) -> Digest:
    if word.partition(":")[0] not in SIZES:
        return _file_digest(word)
    try:
        digest = parse_digest(word)
    except MalformedError as error:
        raise UsageError("verify.allow-code", f"--allow-code: {error.message}") from error
    if digest.algorithm != "sha-256":
        message = f"--allow-code: code is measured by SHA-256, got {shown(word)}"
        raise UsageError("verify.allow-code", message)
    return digest


def _file_digest(path: str) -> Digest:
    import hashlib

    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs the verifier's start
            return Digest("sha-256", hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        wanted = "name a file or its digest; for a folder, use `laminator reference from-directory`"
        message = f"--allow-code: cannot read {shown(path)}: {error.strerror}; {wanted}"
        raise UsageError("verify.allow-code", message) from error
