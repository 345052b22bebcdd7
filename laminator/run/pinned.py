"""Measured copies that stay where they are bound, whatever happens to the folders around them.

A bind hides what lies under it for as long as the folder that holds its mount point stays as it
is. Whoever may write that folder on the machine can take the mount point away (unlink and rename
detach mounts of other namespaces, mount(2)), and the workload then finds what was put there
instead. So no folder above a measured copy is bound as a whole: it is made anew in the workload's
own root, and its entries are bound one by one.
"""

import stat
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from laminator.errors import UsageError, shown
from laminator.run.filesystem import Bind, Filesystem, Link, in_system

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
                links += [] if _is_hidden(piece.path, bind, filesystem.writable) else [piece]
            elif isinstance(piece, Path):
                folders.append(piece)
            elif piece.target not in kept and not _is_hidden(
                piece.target, bind, filesystem.writable
            ):
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


def pin_code(
    filesystem: Filesystem, copies: Collection[Path], links: Collection[Link] = ()
) -> Filesystem:
    """Pin an interpreter's copies, and the links that led to them, as they were then.

    Left out is what lies in a folder of the system's with very many entries (/usr/bin), which only
    root may write. Of other folders with as many entries only this is shown. Raises UsageError
    where a folder above has too many.
    """
    paths = [*copies, *(link.path for link in links)]
    kept = [path for path in paths if not in_system(path) or is_small(path.parent)]
    pinned = pin(filesystem, kept, {path.parent for path in kept})
    measured = {link.path: link for link in links}
    binds = tuple(bind for bind in pinned.read_only if bind.target not in measured)
    pinned = replace(pinned, read_only=binds)
    others = [link for link in pinned.links if link.path not in measured]
    anew = [link for path, link in measured.items() if _is_made_anew(path.parent, pinned)]
    return replace(pinned, links=(*others, *anew))


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


def _is_hidden(path: Path, bind: Bind, places: Collection[Bind]) -> bool:
    """Say whether one of `places`, within `bind`, hides what `bind` shows at `path`."""
    inner = (place.target for place in places if place.target.is_relative_to(bind.target))
    return any(path.is_relative_to(place) for place in inner)


def _is_made_anew(folder: Path, filesystem: Filesystem) -> bool:
    """Say whether `folder` is the workload's own, and not part of something that is bound."""
    binds = [bind.target for bind in (*filesystem.read_only, *filesystem.writable)]
    bound = [len(path.parts) for path in binds if folder.is_relative_to(path)]
    made = (*filesystem.folders, *filesystem.tmpfs)
    own = [len(path.parts) for path in made if folder.is_relative_to(path)]
    return max(own, default=0) > max(bound, default=-1)


def _is_above(folder: Path, copies: Collection[Path]) -> bool:
    return any(path != folder and path.is_relative_to(folder) for path in copies)
