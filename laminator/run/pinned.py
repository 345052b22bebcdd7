"""Measured copies that stay where they are bound, whatever happens to the folders around them.

A bind hides what lies under it for as long as the folder that holds its mount point stays as it
is. Whoever may write that folder on the machine can take the mount point away (unlink and rename
detach mounts of other namespaces, mount(2)), and the workload then finds what was put there
instead. So no folder above a measured copy is bound as a whole: it is made anew in the workload's
own root, and its entries are bound one by one.
"""

import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from laminator.errors import UsageError, shown
from laminator.run.filesystem import Bind, Filesystem, Link

MAX_ENTRIES = 1000
"""Entries of the folders around measured copies that are bound one by one."""


def pin(
    filesystem: Filesystem, copies: Collection[Path], thin: Collection[Path] = ()
) -> Filesystem:
    """Return `filesystem` with every folder above the real paths `copies` made anew.

    Of the folders `thin`, where they have too many entries, only the copies are shown. Raises
    UsageError where another folder has too many.
    """
    read_only: list[Bind] = []
    links: list[Link] = list(filesystem.links)
    folders: list[Path] = list(filesystem.folders)
    kept = {bind.target for bind in (*filesystem.read_only, *filesystem.writable)}
    for bind in filesystem.read_only:
        if not _is_above(bind.target, copies):
            read_only.append(bind)
            continue
        for piece in _pieces(bind, copies, thin):
            if isinstance(piece, Link):
                links.append(piece)
            elif isinstance(piece, Path):
                folders.append(piece)
            elif piece.target not in kept and not _is_hidden(piece.target, filesystem.writable):
                read_only.append(piece)
    return Filesystem(
        read_only=tuple(dict.fromkeys(read_only)),
        writable=filesystem.writable,
        devices=filesystem.devices,
        tmpfs=filesystem.tmpfs,
        folders=tuple(dict.fromkeys(folders)),
        links=tuple(dict.fromkeys(links)),
        masked=filesystem.masked,
    )


def is_small(folder: Path) -> bool:
    """Say whether the folder's entries, and those of the folders above, can be bound singly."""
    count = 0
    for path in (folder, *folder.parents):
        count += sum(1 for _ in path.iterdir())
        if count > MAX_ENTRIES:
            return False
    return True


def _pieces(
    bind: Bind, copies: Collection[Path], thin: Collection[Path]
) -> Iterator[Bind | Link | Path]:
    """Yield what stands for `bind`: its folders made anew, links, binds of everything else."""
    yield bind.target
    entries = sorted(bind.source.iterdir())
    if len(entries) > MAX_ENTRIES and bind.target in thin:
        entries = [entry for entry in entries if _is_above(bind.target / entry.name, copies)]
    if len(entries) > MAX_ENTRIES:
        message = f"{shown(str(bind.source))} has more than {MAX_ENTRIES} entries"
        raise UsageError("places.entries", f"{message}: put the script and inputs elsewhere")
    for entry in entries:
        piece = Bind(entry, bind.target / entry.name)
        mode = entry.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield Link(piece.target, str(entry.readlink()))
        elif _is_above(piece.target, copies):
            yield from _pieces(piece, copies, thin)
        elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            yield piece


def _is_hidden(path: Path, places: Collection[Bind]) -> bool:
    return any(path.is_relative_to(place.target) for place in places)


def _is_above(folder: Path, copies: Collection[Path]) -> bool:
    return any(path != folder and path.is_relative_to(folder) for path in copies)
