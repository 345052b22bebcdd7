"""Reference values of a folder's files as they are: the provider's own sources, single files."""

import os
from collections.abc import Collection, Iterator, Sequence

from laminator.errors import MalformedError, UsageError, shown
from laminator.measure.code_names import Roots
from laminator.measure.files import MAX_DEPTH, MAX_FILES
from laminator.reference import CODE_LABELS, ReferencePackage
from laminator.references.packing import digest_files, pack
from laminator.references.zip_members import check_name, check_names

NEVER_READ = ("__pycache__", ".git", ".hg")


def walk(root: str, skipped: Collection[str] = NEVER_READ) -> Iterator[str]:
    """Yield the paths below `root` of its files and of links to files, without `.pyc` files.

    Folders called as one of `skipped` are left out, links to folders are not followed. Raises
    UsageError for a folder that cannot be read or is too deep.
    """
    pending, count = [""], 0
    while pending:
        folder = pending.pop()
        if folder.count("/") >= MAX_DEPTH:
            raise UsageError("files.depth", f"folders nested deeper than {MAX_DEPTH}")
        for entry in _entries(os.path.join(root, folder)):  # noqa: PTH118 - text, for speed
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                pending += [] if entry.name in skipped else [path]
            elif entry.is_file() and not entry.name.endswith(".pyc"):
                count += 1
                yield path
        if count > MAX_FILES:
            raise UsageError("files.count", f"more than {MAX_FILES} files")


def read_folder(folder: str, label: str, name: str) -> ReferencePackage:
    """Return the values of the files below `folder`, named ``label/relative/path``.

    `label` is one that a log has, such as ``script``, or ``source/NAME`` for an editable install.
    Raises UsageError and MachineError.
    """
    if label.partition("/")[0] not in CODE_LABELS:
        message = f"no label {shown(label)}; one of {', '.join(CODE_LABELS)}"
        raise UsageError("reference.label", message)
    paths = sorted(walk(folder))
    _check([label, *paths])
    if not paths:
        raise UsageError("reference.empty", f"no file in {shown(folder)}; name another folder")
    named = {f"{label}/{path}": os.path.join(folder, path) for path in paths}  # noqa: PTH118 - text
    return pack(name, "", "directory", digest_files(named))


def read_files(paths: Sequence[str], roots: Roots, name: str) -> ReferencePackage:
    """Return the values of single files as they are here, such as the system's libraries.

    A link counts under its own name and under the name of the file that it leads to. Raises
    UsageError and MachineError.
    """
    named: dict[str, str] = {}
    for path in paths:
        absolute = os.path.abspath(path)  # noqa: PTH100 - keeps links as they are
        named |= {roots.name(each): absolute for each in (absolute, os.path.realpath(absolute))}
    return pack(name, "", "environment", digest_files(named))


def _check(names: Sequence[str]) -> None:
    try:
        check_name(names[0])
        check_names(names[1:])
    except MalformedError as error:
        raise UsageError(error.code, f"{error.message}; rename it") from error


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        message = f"cannot read the folder {shown(folder)}: {error.strerror}"
        raise UsageError("files.open", message) from error
