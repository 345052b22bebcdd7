"""What changed between two sets of reference values, package by package."""

from collections.abc import Iterable
from typing import NamedTuple

from laminator.reference import ReferencePackage


class PackageChange(NamedTuple):
    """A package's changes: its versions on both sides, () where it is not there, and its files."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    modified: tuple[str, ...]


class _Side(NamedTuple):
    versions: tuple[str, ...]
    files: dict[str, set[bytes]]


def compare(
    before: Iterable[ReferencePackage], after: Iterable[ReferencePackage]
) -> tuple[PackageChange, ...]:
    """Return the packages that differ, by name; kinds and origins alone are no difference."""
    old, new = _by_name(before), _by_name(after)
    nothing = _Side((), {})
    changes = (
        _change(name, old.get(name, nothing), new.get(name, nothing))
        for name in sorted(old.keys() | new.keys())
    )
    return tuple(
        each
        for each in changes
        if each.before != each.after or each.added or each.removed or each.modified
    )


def _by_name(packages: Iterable[ReferencePackage]) -> dict[str, _Side]:
    sides: dict[str, _Side] = {}
    for package in packages:
        versions, files = sides.get(package.name, _Side((), {}))
        for place, path in enumerate(package.paths):
            files.setdefault(path, set()).add(package.digest(place))
        known = tuple(sorted({*versions, package.version}))
        sides[package.name] = _Side(known, files)
    return sides


def _change(name: str, old: _Side, new: _Side) -> PackageChange:
    both = old.files.keys() & new.files.keys()
    return PackageChange(
        name,
        old.versions,
        new.versions,
        tuple(sorted(new.files.keys() - old.files.keys())),
        tuple(sorted(old.files.keys() - new.files.keys())),
        tuple(sorted(path for path in both if old.files[path] != new.files[path])),
    )
