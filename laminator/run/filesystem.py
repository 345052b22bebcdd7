"""What a workload sees of the file system: an allow-list, built anew for each run.

Decision record: docs/adr/0003-isolation.md.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HOME = Path("/home/workload")
"""The workload's home: empty when it starts, gone when it ends."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc")
_TOPOLOGY = ("/sys/devices/system/cpu", "/sys/devices/system/node")
GPU_DEVICES = ("nvidia*", "dri", "kfd")
_GPU_FOLDERS = ("/sys/bus/pci", "/sys/class/drm", "/sys/class/kfd", "/sys/dev/char", "/sys/module")
_TMP = Path("/tmp")  # noqa: S108 - the workload's own
_BROAD = tuple(map(Path, ("/", "/tmp", "/var/tmp", "/dev/shm", "/home", "/root")))  # noqa: S108
_CLOSED = tuple(map(Path, ("/dev", "/proc", "/run", "/sys")))
_STATE = tuple(map(Path, ("/var", "/var/lib")))
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only named


class Bind(NamedTuple):
    """The file or folder `source` of the machine, seen by the workload at `target`."""

    source: Path
    target: Path


class Link(NamedTuple):
    """A symbolic link at `path` with this text."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """A workload's root: nothing but this, a fresh /proc, a minimal /dev and /tmp.

    `read_only` and `writable` binds, `devices` (bound under their own path), empty writable
    folders in memory (`tmpfs`), empty read-only `folders`, `links`, and what is `masked` within
    the binds. /proc is read-only: root's user id may write the machine's settings in /proc/sys
    without any capability, and one of them names a program that the kernel starts as root.
    """

    read_only: tuple[Bind, ...] = ()
    writable: tuple[Bind, ...] = ()
    devices: tuple[Path, ...] = ()
    tmpfs: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    links: tuple[Link, ...] = ()
    masked: tuple[Path, ...] = ()

    def options(self) -> list[str]:
        """Return bubblewrap's options: outer places before inner ones, the root read-only."""
        steps: list[tuple[Path, list[str]]] = [
            (Path("/proc"), ["--proc", "/proc", "--remount-ro", "/proc"]),
            (Path("/dev"), ["--dev", "/dev"]),
            (_TMP, ["--tmpfs", str(_TMP)]),
        ]
        steps += [(path, ["--dir", str(path)]) for path in self.folders]
        steps += [(path, ["--tmpfs", str(path)]) for path in self.tmpfs]
        steps += [(link.path, ["--symlink", link.text, str(link.path)]) for link in self.links]
        steps += [
            (target, _words("--ro-bind", source, target)) for source, target in self.read_only
        ]
        steps += [(target, _words("--bind", source, target)) for source, target in self.writable]
        steps += [(path, _words("--dev-bind", path, path)) for path in self.devices]
        steps += [(path, _mask(path)) for path in self.masked]
        steps.sort(key=lambda step: step[0].parts)
        return [word for _, words in steps for word in words] + ["--remount-ro", "/"]


def merged(*parts: Filesystem) -> Filesystem:
    """Return all that `parts` show, each thing once."""
    names = Filesystem.__slots__
    return Filesystem(
        **{name: tuple(dict.fromkeys(sum((getattr(p, name) for p in parts), ()))) for name in names}
    )


def system_filesystem(*, network: bool = False) -> Filesystem:
    """Return what every workload sees: programs, libraries, /etc, processors and GPUs.

    What we may read in /etc and others may not is masked: the workload has our user id, which
    may be root's, and owners read their files without any capability.
    """
    links, binds = [], []
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            links.append(Link(path, str(path.readlink())))
        elif path.is_dir():
            binds.append(Bind(path, path))
    devices = tuple(found for glob in GPU_DEVICES for found in sorted(Path("/dev").glob(glob)))
    folders = [*_TOPOLOGY, *(_GPU_FOLDERS if devices else ())]
    folders += [str(found) for found in Path("/sys/devices").glob("pci*") if devices]
    binds += [Bind(path, path) for path in map(Path, folders) if path.is_dir()]
    resolver = Path("/etc/resolv.conf").resolve()
    if network and resolver.is_file() and not resolver.is_relative_to("/etc"):
        binds.append(Bind(resolver, resolver))
    masked = tuple(_secrets(Path("/etc")))
    return Filesystem(
        read_only=tuple(binds), links=tuple(links), devices=devices, masked=masked, tmpfs=(HOME,)
    )


def folder_binds(folders: Sequence[Path], *, home: Path | None = None) -> Filesystem:
    """Show `folders` (or files) read-only under their real paths.

    Of a folder that is too broad (`is_broad`) only bin and lib* are shown: it is the prefix of a
    Python installation. Nothing is shown of the machine's own state and devices.
    """
    binds = []
    for folder in folders:
        real = folder.resolve()
        parts = [*real.glob("bin"), *real.glob("lib*")] if is_broad(real, home) else [real]
        parts = [
            part for part in parts if (part.is_dir() or part.is_file()) and not _is_closed(part)
        ]
        binds += [Bind(part, part) for part in parts if not in_system(part)]
    return Filesystem(read_only=tuple(binds))


def is_broad(folder: Path, home: Path | None = None) -> bool:
    """Say whether `folder` is a home, holds one, or is the machine's or shared by everybody."""
    homes = [*_own_home(), *([home.resolve()] if home is not None else [])]
    above = any(one.is_relative_to(folder) for one in homes)
    return folder in _BROAD or above or _is_closed(folder)


def _is_closed(folder: Path) -> bool:
    """Say whether `folder` holds the machine's state, sockets or devices."""
    inside = any(folder.is_relative_to(one) for one in _CLOSED)
    return folder in _STATE or (inside and _SHARED_MEMORY not in folder.parents)


def _own_home() -> Iterator[Path]:
    with contextlib.suppress(RuntimeError):  # a user id without a name, and no HOME
        yield Path.home()


def in_system(path: Path) -> bool:
    """Say whether `path` is in a folder of the system's, which every workload sees."""
    return any(path.is_relative_to(folder) for folder in _SYSTEM)


def _words(option: str, *paths: Path) -> list[str]:
    return [option, *map(str, paths)]


def _mask(path: Path) -> list[str]:
    if path.is_dir():
        return ["--perms", "0000", "--tmpfs", str(path), "--remount-ro", str(path)]
    return ["--ro-bind", "/dev/null", str(path)]


def _secrets(folder: Path) -> Iterator[Path]:
    """Find the files and folders below `folder` that we may read and others may not."""
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            is_folder = stat.S_ISDIR(mode)
            wanted = stat.S_IROTH | stat.S_IXOTH if is_folder else stat.S_IROTH
            if mode & wanted == wanted:
                if is_folder:
                    yield from _secrets(Path(entry.path))
            elif not stat.S_ISLNK(mode) and os.access(entry.path, os.R_OK):
                yield Path(entry.path)
