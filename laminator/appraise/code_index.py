"""What each file of code in a log is, held against reference values: one answer a file.

A file is known by its name and its bytes together: published bytes under another name are not what
was published there. Only names of the log are looked up, so that no index is made of references.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Literal, NamedTuple

from laminator.claims import CODE_FILES, Workload
from laminator.eventlog import Record
from laminator.reference import DIGEST_SIZE, ReferencePackage, ReferenceValues

ENTRY, INTERPRETER = "entry", "interpreter"

Status = Literal["known-good", "approved", "unknown", "modified", "forbidden"]
_Key = tuple[str, bytes]


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


class _Found(NamedTuple):
    """Places of packages: `same` of those that have a file, `others` by names of other bytes.

    Of several packages that have a file, the one is named that has most of the files.
    """

    same: Mapping[_Key, int]
    others: Mapping[str, tuple[int, bytes]]


def packages_of(references: Iterable[ReferenceValues]) -> tuple[ReferencePackage, ...]:
    """Return all packages of `references`, in their order."""
    return tuple(package for values in references for package in values.packages)


def classify(workload: Workload, records: Iterable[Record], known: Known) -> tuple[CodeFile, ...]:
    """Return what each file is: entry, interpreter, and then the log's in the order of first use.

    A file is one name with one digest, however often it was loaded.
    """
    entry, interpreter = workload.entry, workload.interpreter
    files: dict[_Key, str] = {
        (f"script/{entry.label}", entry.digest.value): ENTRY,
        (f"interpreter/{interpreter.label}", interpreter.digest.value): INTERPRETER,
    }
    for event, name, digest in records:
        if event in CODE_FILES:
            files.setdefault((name, digest), event)
    found = _look_up(files, known.packages)
    return tuple(
        CodeFile(event, *key, "known-good", known.packages[found.same[key]])
        if key in found.same and key[1] not in known.forbidden
        else _unpublished(CodeFile(event, *key, "unknown"), found, known)
        for key, event in files.items()
    )


def _look_up(files: Mapping[_Key, str], packages: Sequence[ReferencePackage]) -> _Found:
    """Find the packages that have the names of `files`, with the same bytes and with others."""
    names = {name for name, _ in files}
    same: dict[_Key, int] = {}
    shared: dict[_Key, list[int]] = {}
    others: dict[str, list[tuple[int, bytes]]] = {}
    ranks = [0] * len(packages)
    for number, (*_, paths, digests) in enumerate(packages):
        for place in compress(range(len(paths)), map(names.__contains__, paths)):
            key = paths[place], digests[DIGEST_SIZE * place : DIGEST_SIZE * (place + 1)]
            if key not in files:
                others.setdefault(key[0], []).append((number, key[1]))
                continue
            ranks[number] += 1
            first = same.setdefault(key, number)
            if first != number:
                shared.setdefault(key, [first]).append(number)
    if len(names) < len(files):  # a name with several digests, of which one may be published
        for (name, digest), number in same.items():
            others.setdefault(name, []).append((number, digest))
    same.update(_interpreters(files, packages))
    same.update((key, max(each, key=ranks.__getitem__)) for key, each in shared.items())
    best = {name: max(each, key=lambda one: ranks[one[0]]) for name, each in others.items()}
    return _Found(same, best)


def _interpreters(
    files: Mapping[_Key, str], packages: Sequence[ReferencePackage]
) -> Iterator[tuple[_Key, int]]:
    """Yield the packages that have an interpreter's binary: claims name its version, not a path."""
    wanted = {key[1]: key for key, event in files.items() if event == INTERPRETER}
    for number, package in enumerate(packages):
        first = bisect_left(package.paths, "interpreter/")
        # "0" is the character after "/".
        for place in range(first, bisect_left(package.paths, "interpreter0")):
            if package.digest(place) in wanted:
                yield wanted[package.digest(place)], number


def _unpublished(file: CodeFile, found: _Found, known: Known) -> CodeFile:
    """Say what a file is that no package has, or that the policy forbids."""
    if file.digest in known.forbidden:
        return file._replace(status="forbidden", why="the policy forbids this digest")
    if file.event == "bootstrap" and known.launched:
        return file._replace(status="known-good", why="by the attester's launch reference")
    if file.digest in known.approved:
        return file._replace(status="approved", why="its digest is approved")
    if file.name in found.others:
        number, expected = found.others[file.name]
        return file._replace(status="modified", package=known.packages[number], expected=expected)
    return file
