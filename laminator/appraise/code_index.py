"""What each file of code in a log is, held against reference values: one answer a file.

A file is known by its name and its bytes together: published bytes under another name are not what
was published there. Only names of the log are looked up, so that no index is made of references.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import Literal, NamedTuple

from laminator.claims import CODE_FILES, Workload
from laminator.eventlog import Record
from laminator.reference import ReferencePackage, ReferenceValues

ENTRY, INTERPRETER = "entry", "interpreter"

Status = Literal["known-good", "approved", "unknown", "modified", "forbidden"]
_Found = list[tuple[int, bytes]]


class CodeFile(NamedTuple):
    """One file of code that ran: `digest` is its SHA-256.

    `event` is the log's, or "entry" and "interpreter" for the claims' own. `package` is the one
    that the file is of (known-good) or should be of (modified), and `expected` its digest there;
    `why` says what else approves or forbids it.
    """

    event: str
    name: str
    digest: bytes
    status: Status
    package: ReferencePackage | None = None
    expected: bytes | None = None
    why: str = ""


class Known(NamedTuple):
    """What a verifier knows of code: digests of 32 bytes, and packages of reference values.

    `launched` tells that the attester's launch matches a reference value, which fixes the
    bootstrap that the attester hands over.
    """

    packages: Sequence[ReferencePackage]
    approved: Collection[bytes]
    forbidden: Collection[bytes]
    launched: bool


def packages_of(references: Iterable[ReferenceValues]) -> tuple[ReferencePackage, ...]:
    """Return all packages of `references`, in their order."""
    return tuple(package for values in references for package in values.packages)


def classify(workload: Workload, records: Iterable[Record], known: Known) -> tuple[CodeFile, ...]:
    """Return what each file is: entry, interpreter, and then the log's in the order of first use.

    A file is one name with one digest, however often it was loaded.
    """
    files: dict[tuple[str, bytes], str] = {}
    entry, interpreter = workload.entry, workload.interpreter
    files[f"script/{entry.label}", entry.digest.value] = ENTRY
    files[f"interpreter/{interpreter.label}", interpreter.digest.value] = INTERPRETER
    for record in records:
        if record.event in CODE_FILES:
            files.setdefault((record.name, record.digest), record.event)
    found = _look_up({name for name, _ in files}, known.packages)
    binaries = _interpreters(known.packages)
    ranks = _ranks(files, found)
    return tuple(
        _answer(
            CodeFile(event, name, digest, "unknown"),
            binaries.get(digest, ()) if event == INTERPRETER else found.get(name, ()),
            known,
            ranks,
        )
        for (name, digest), event in files.items()
    )


def _look_up(names: Collection[str], packages: Sequence[ReferencePackage]) -> Mapping[str, _Found]:
    """Return for each of `names` that a package has, (package's place, digest there)."""
    found: dict[str, _Found] = {}
    for number, package in enumerate(packages):
        paths = package.paths
        for place in compress(range(len(paths)), map(names.__contains__, paths)):
            found.setdefault(paths[place], []).append((number, package.digest(place)))
    return found


def _interpreters(packages: Sequence[ReferencePackage]) -> Mapping[bytes, _Found]:
    """Return the interpreters' binaries by digest: claims name one by its version, not its path."""
    found: dict[bytes, _Found] = {}
    for number, package in enumerate(packages):
        first = bisect_left(package.paths, "interpreter/")
        # "0" is the character after "/".
        for place in range(first, bisect_left(package.paths, "interpreter0")):
            digest = package.digest(place)
            found.setdefault(digest, []).append((number, digest))
    return found


def _ranks(files: Iterable[tuple[str, bytes]], found: Mapping[str, _Found]) -> Mapping[int, int]:
    """Return how many of `files` each package has, so that of several versions one is named."""
    ranks: dict[int, int] = {}
    for name, digest in files:
        for number, expected in found.get(name, ()):
            if expected == digest:
                ranks[number] = ranks.get(number, 0) + 1
    return ranks


def _answer(
    file: CodeFile, found: Iterable[tuple[int, bytes]], known: Known, ranks: Mapping[int, int]
) -> CodeFile:
    if file.digest in known.forbidden:
        return file._replace(status="forbidden", why="the policy forbids this digest")
    same = [number for number, expected in found if expected == file.digest]
    if same:
        best = max(same, key=lambda number: ranks.get(number, 0))
        return file._replace(status="known-good", package=known.packages[best])
    if file.event == "bootstrap" and known.launched:
        return file._replace(status="known-good", why="by the attester's launch reference")
    if file.digest in known.approved:
        return file._replace(status="approved", why="its digest is approved")
    for number, expected in sorted(found, key=lambda each: -ranks.get(each[0], 0)):
        return file._replace(status="modified", package=known.packages[number], expected=expected)
    return file
