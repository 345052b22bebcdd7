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
from laminator.reference import DIGEST_SIZE as _SIZE
from laminator.reference import ReferencePackage, ReferenceValues

ENTRY, INTERPRETER = "entry", "interpreter"

Status = Literal["known-good", "approved", "unknown", "modified", "forbidden"]


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


class _Names(NamedTuple):
    """A log's files by name: `first` as first loaded, `again` what came later with other bytes."""

    first: dict[str, Record]
    again: tuple[Record, ...]


class _Found(NamedTuple):
    """Places of packages: `same` of those that have a name's first bytes, `others` of all others.

    Of several packages that have a file, the one is named that has most of the files.
    """

    same: Mapping[str, int]
    others: Mapping[str, Sequence[tuple[int, bytes]]]
    ranks: Sequence[int]


def packages_of(references: Iterable[ReferenceValues]) -> tuple[ReferencePackage, ...]:
    """Return all packages of `references`, in their order."""
    return tuple(package for values in references for package in values.packages)


def classify(workload: Workload, records: Iterable[Record], known: Known) -> tuple[CodeFile, ...]:
    """Return what each file is: entry, interpreter, and then the log's in the order of first use.

    A file is one name with one digest, however often it was loaded.
    """
    own = (
        Record(ENTRY, f"script/{workload.entry.label}", workload.entry.digest.value),
        _interpreter(workload, known.packages),
    )
    names = _by_name((*own, *(each for each in records if each.event in CODE_FILES)))
    found = _look_up(names, known.packages)
    known_good = [
        CodeFile(event, name, digest, "known-good", known.packages[found.same[name]])
        if name in found.same and digest not in known.forbidden
        else _unpublished(CodeFile(event, name, digest, "unknown"), found, known)
        for event, name, digest in names.first.values()
    ]
    return tuple(known_good) + tuple(
        _unpublished(CodeFile(*record, "unknown"), found, known) for record in names.again
    )


def _by_name(records: Iterable[Record]) -> _Names:
    first: dict[str, Record] = {}
    again: dict[tuple[str, bytes], Record] = {}
    for record in records:
        before = first.setdefault(record.name, record)
        if before is not record and before.digest != record.digest:
            again.setdefault(record[1:], record)
    return _Names(first, tuple(again.values()))


def _look_up(names: _Names, packages: Sequence[ReferencePackage]) -> _Found:
    """Find the packages that have the files of `names`, or their names with other bytes.

    The loop over the files that packages have decides how long a large log takes.
    """
    wanted = {name: record.digest for name, record in names.first.items()}
    again = {record.name for record in names.again}
    same: dict[str, int] = {}
    shared: dict[str, list[int]] = {}
    others: dict[str, list[tuple[int, bytes]]] = {}
    ranks = [0] * len(packages)
    for number, (*_, paths, digests) in enumerate(packages):
        for place in compress(range(len(paths)), map(wanted.__contains__, paths)):
            path = paths[place]
            if digests.startswith(wanted[path], _SIZE * place):
                ranks[number] += 1
                if same.setdefault(path, number) != number:
                    shared.setdefault(path, [same[path]]).append(number)
                if path not in again:
                    continue
            digest = digests[_SIZE * place : _SIZE * (place + 1)]
            others.setdefault(path, []).append((number, digest))
    same.update((path, max(each, key=ranks.__getitem__)) for path, each in shared.items())
    return _Found(same, others, ranks)


def _interpreter(workload: Workload, packages: Sequence[ReferencePackage]) -> Record:
    """Return the interpreter by the name that a package has for its bytes, if one has.

    Claims name it by its file's name or its version, which says less than its digest.
    """
    label, digest = workload.interpreter.label, workload.interpreter.digest.value
    name = f"interpreter/{label}"
    for package in packages:
        first = bisect_left(package.paths, "interpreter/")
        # "0" is the character after "/".
        for place in range(first, bisect_left(package.paths, "interpreter0")):
            if package.digest(place) == digest:
                return Record(INTERPRETER, package.paths[place], digest)
    return Record(INTERPRETER, name, digest)


def _unpublished(file: CodeFile, found: _Found, known: Known) -> CodeFile:
    """Say what a file is that the policy forbids, or whose first bytes no package has."""
    if file.digest in known.forbidden:
        return file._replace(status="forbidden", why="the policy forbids this digest")
    there = sorted(found.others.get(file.name, ()), key=lambda each: -found.ranks[each[0]])
    for number, expected in there:
        if expected == file.digest:
            return file._replace(status="known-good", package=known.packages[number])
    if file.event == "bootstrap" and known.launched:
        return file._replace(status="known-good", why="by the attester's launch reference")
    if file.digest in known.approved:
        return file._replace(status="approved", why="its digest is approved")
    for number, expected in there[:1]:
        return file._replace(status="modified", package=known.packages[number], expected=expected)
    return file
