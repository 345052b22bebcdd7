"""Reference values of what is installed here, as it is: trust on first use.

The files of each distribution are those of its RECORD. Nothing says that they came from where they
claim to: that the installed RECORD agrees shows accidents, not lies.
"""

import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from laminator.errors import MalformedError
from laminator.reference import ReferencePackage
from laminator.references.folders import walk
from laminator.references.interpreters import find_interpreter, roots_without_script
from laminator.references.packing import digest_files, pack
from laminator.references.wheel_record import Recorded, parse_record

UNOWNED = "(of no package)"


class Installed(NamedTuple):
    """What is installed: packages, and what their RECORDs do not agree with, one line each."""

    packages: tuple[ReferencePackage, ...]
    differences: tuple[str, ...]


class _Distribution(NamedTuple):
    name: str
    version: str
    rows: Mapping[str, Recorded]
    paths: Mapping[str, str]


def read_environment(python: str) -> Installed:
    """Return the values of the packages that the interpreter `python` imports from.

    Raises UsageError and MachineError.
    """
    interpreter = find_interpreter(python)
    roots = roots_without_script(interpreter)
    packages: list[ReferencePackage] = []
    differences: list[str] = []
    for folder in dict.fromkeys(os.path.realpath(path) for path in interpreter.packages):
        owned: set[str] = set()
        for each in _distributions(folder):
            there = {row: path for row, path in each.paths.items() if os.path.isfile(path)}  # noqa: PTH113 - text
            digests = digest_files(there)
            differences += _differences(each, digests)
            named = {roots.name(there[row]): digest for row, digest in digests.items()}
            packages.append(pack(each.name, each.version, "environment", named))
            owned.update(there.values())
        rest = (os.path.join(folder, path) for path in walk(folder))  # noqa: PTH118 - text
        left = {roots.name(path): path for path in rest if path not in owned}
        packages += [pack(UNOWNED, "", "environment", digest_files(left))] if left else []
    return Installed(tuple(packages), tuple(differences))


def _distributions(folder: str) -> Iterator[_Distribution]:
    """Yield a folder's distributions with a RECORD; the others' files belong to no package."""
    from packaging.utils import canonicalize_name

    for found in importlib.metadata.distributions(path=[folder]):
        text = found.read_text("RECORD")
        name = found.metadata["Name"]
        if text is None or not name:
            continue
        try:
            rows = parse_record(text.encode("utf-8", "surrogateescape"))
        except MalformedError:
            continue
        kept = [row for row in rows if not row.endswith(".pyc")]
        paths = {row: os.path.normpath(os.path.join(folder, row)) for row in kept}  # noqa: PTH118 - text
        yield _Distribution(canonicalize_name(name), found.version, rows, paths)


def _differences(each: _Distribution, digests: Mapping[str, bytes]) -> Iterator[str]:
    for row in each.paths:
        recorded = each.rows[row]
        if row not in digests:
            yield f"{each.name} {each.version}: {row} is missing"
        elif recorded.algorithm == "sha256" and recorded.digest != digests[row]:
            yield f"{each.name} {each.version}: {row} is not what RECORD says: modified"
