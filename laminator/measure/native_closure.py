"""All native files that loading one of them can bring in, found as the dynamic linker finds them.

The search follows ld.so(8) and glibc's dl-load.c: DT_RPATH of the object and of those that load it
(only while the object has no DT_RUNPATH), DT_RUNPATH, /etc/ld.so.cache, the default folders; each
folder with its glibc-hwcaps subfolders first. The result may hold more than glibc will load (every
hwcaps variant, every folder's hit for an unknown $PLATFORM), never code that is trusted for it:
what is found wrongly is only measured in vain, and what is not found does not run.

With a file of an installed package come its package's other native files and its `NAME.libs`
folder, so that a dlopen from C of a sibling works.

All paths are looked up below the workload's root, as an open folder descriptor, with openat2(2)
and RESOLVE_IN_ROOT, so that links lead where they lead the workload.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.errors import MachineError, MalformedError, UsageError, shown
from laminator.measure.elf import Elf, is_elf, read_elf

MAX_FILES = 4096
MAX_DEPTH = 64
MAX_CACHE = 16 << 20
MAX_ENTRIES = 200_000

_OPENAT2, _RESOLVE_IN_ROOT = 437, 0x10
_CACHE = "/etc/ld.so.cache"
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_CACHE_HEAD = struct.Struct("<20sII20x")
_CACHE_ENTRY = struct.Struct("<iIIIQ")
_X86_64, _AARCH64 = 62, 183
_TRIPLETS = {_X86_64: "x86_64-linux-gnu", _AARCH64: "aarch64-linux-gnu"}
_HWCAPS = {
    _X86_64: tuple(f"glibc-hwcaps/x86-64-v{level}" for level in (4, 3, 2)),
    _AARCH64: (),
}
_PLATFORMS = {_X86_64: ("x86_64", "haswell", "xeon_phi"), _AARCH64: ("aarch64",)}


class Native(NamedTuple):
    """A native file of the workload's: its real path there, and an open descriptor of it."""

    path: str
    descriptor: int


class _Object(NamedTuple):
    """A file whose needs are to be found, and the (Elf, folder) of those that load it."""

    native: Native
    elf: Elf
    loaders: tuple[tuple[Elf, str], ...]


def open_in_root(root: int, path: str, flags: int = os.O_RDONLY) -> int:
    """Open the absolute `path` as a process with the root folder `root` would.

    Raises OSError, and MachineError where no more files can be open.
    """
    how = struct.pack("<QQQ", flags | os.O_CLOEXEC | os.O_NONBLOCK, 0, _RESOLVE_IN_ROOT)
    library = ctypes.CDLL(None, use_errno=True)
    descriptor: int = library.syscall(_OPENAT2, root, os.fsencode(path), how, len(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        if number in (errno.EMFILE, errno.ENFILE):
            message = "too many open files for one library's closure: raise `ulimit -n`"
            raise MachineError("native.descriptors", message)
        raise OSError(number, os.strerror(number), path)
    return descriptor


class Closure:
    """The natives found so far, each once; `files` are in the order in which they were found.

    `sites` are the folders of installed packages. Descriptors are open until `close`.
    """

    def __init__(self, root: int, sites: Sequence[str] = ()) -> None:
        self._root, self._sites = root, tuple(sites)
        self._cache: dict[str, list[str]] | None = None
        self._seen: set[str] = set()
        self._packages: set[str] = set()
        self.files: list[Native] = []

    def close(self) -> None:
        """Close the descriptors of what was found."""
        for native in self.files:
            os.close(native.descriptor)
        self.files = []

    def add(self, path: str) -> str:
        """Find `path` and all that loading it brings in; return its real path.

        Raises UsageError for a path that is not there, MalformedError (`elf.*`) where it is no
        ELF file, or `native.count` beyond the limit. A program text with `#!` is not one.
        """
        try:
            native = self._open(path)
        except OSError as error:
            reason = (error.strerror or "unreadable").lower()
            raise UsageError("native.open", f"cannot open {shown(path)}: {reason}") from error
        if native.path in self._seen:
            os.close(native.descriptor)
            return native.path
        try:
            elf = read_elf(native.descriptor)
        except MalformedError:
            os.close(native.descriptor)
            raise
        self._walk(_Object(native, elf, ()))
        return native.path

    def _walk(self, first: _Object) -> None:
        pending = [first]
        self._keep(first.native)
        while pending:
            item = pending.pop()
            if len(item.loaders) >= MAX_DEPTH:
                raise MalformedError("native.depth", f"loaded by more than {MAX_DEPTH} in a row")
            found = [*self._needed(item), *self._siblings(item.native.path)]
            for native, loaders in found:
                if native.path in self._seen:
                    os.close(native.descriptor)
                    continue
                self._keep(native)
                try:
                    pending.append(_Object(native, read_elf(native.descriptor), loaders))
                except MalformedError:
                    continue  # measured; what it needs is not followed

    def _keep(self, native: Native) -> None:
        if len(self.files) >= MAX_FILES:
            os.close(native.descriptor)
            raise MalformedError("native.count", f"more than {MAX_FILES} native files at once")
        self._seen.add(native.path)
        self.files.append(native)

    def _needed(self, item: _Object) -> Iterator[tuple[Native, tuple[tuple[Elf, str], ...]]]:
        folder = item.native.path.rpartition("/")[0]
        loaders = ((item.elf, folder), *item.loaders)
        if item.elf.interpreter is not None:
            yield from ((one, ()) for one in self._first([item.elf.interpreter], item.elf.machine))
        for name in item.elf.needed:
            names = [_expanded(name, folder, item.elf)[0]] if "/" in name else None
            paths = names or self._candidates(name, item.elf, loaders)
            yield from ((one, loaders) for one in self._first(paths, item.elf.machine))

    def _candidates(
        self, name: str, elf: Elf, loaders: tuple[tuple[Elf, str], ...]
    ) -> Iterator[str]:
        folders: list[str] = []
        if not elf.runpath:
            for loader, origin in loaders:
                if not loader.runpath:
                    folders += [
                        one for text in loader.rpath for one in _expanded(text, origin, elf)
                    ]
        folders += [one for text in elf.runpath for one in _expanded(text, loaders[0][1], elf)]
        yield from _in_folders(folders, name, elf.machine)
        yield from self._cached().get(name, ())
        yield from _in_folders(_default_folders(elf.machine), name, elf.machine)

    def _first(self, paths: Sequence[str] | Iterator[str], machine: int) -> Iterator[Native]:
        """Yield the first of `paths` that is for this machine, with its hwcaps variants."""
        for path in paths:
            if not path.startswith("/"):
                continue  # relative to the working folder, which nobody knows
            try:
                native = self._open(path)
            except OSError:
                continue
            if _machine(native.descriptor) == machine:
                yield native
                if "/glibc-hwcaps/" not in path:
                    return
            else:
                os.close(native.descriptor)

    def _siblings(self, path: str) -> Iterator[tuple[Native, tuple[tuple[Elf, str], ...]]]:
        for folder in self._package(path):
            if folder not in self._packages:
                self._packages.add(folder)
                for name in self._list(folder, 0):
                    try:
                        native = self._open(name)
                    except OSError:
                        continue
                    if is_elf(native.descriptor):
                        yield native, ()
                    else:
                        os.close(native.descriptor)

    def _package(self, path: str) -> list[str]:
        """Return the folders of the package that `path` belongs to.

        Of a namespace package (nvidia/cudnn) it is the folder below the shared one.
        """
        for site in self._sites:
            if not path.startswith(site + "/"):
                continue
            parts = path.removeprefix(site + "/").split("/")
            if not parts[1:]:
                return []
            top = f"{site}/{parts[0]}"
            if parts[0].endswith(".libs"):
                return [top]
            if parts[2:] and not self._is_file(f"{top}/__init__.py"):
                top = f"{top}/{parts[1]}"
            return [top, f"{site}/{parts[0]}.libs"]
        return []

    def _list(self, folder: str, depth: int) -> Iterator[str]:
        """Yield the paths below `folder` that may be native by name or permission."""
        try:
            descriptor = open_in_root(self._root, folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            with os.scandir(descriptor) as entries:
                items = sorted(entries, key=lambda entry: entry.name)[:MAX_ENTRIES]
            for entry in items:
                path = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if depth < MAX_DEPTH:
                        yield from self._list(path, depth + 1)
                elif _may_be_native(entry):
                    yield path
        finally:
            os.close(descriptor)

    def _is_file(self, path: str) -> bool:
        try:
            native = self._open(path)
        except OSError:
            return False
        os.close(native.descriptor)
        return True

    def _open(self, path: str) -> Native:
        """Open a regular file. Raises OSError, also for anything else."""
        descriptor = open_in_root(self._root, path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file", path)
        return Native(str(Path(f"/proc/self/fd/{descriptor}").readlink()), descriptor)

    def _cached(self) -> dict[str, list[str]]:
        if self._cache is None:
            self._cache = {}
            try:
                descriptor = open_in_root(self._root, _CACHE)
            except OSError:
                return self._cache
            with os.fdopen(descriptor, "rb") as file:
                self._cache = parse_cache(file.read(MAX_CACHE + 1))
        return self._cache


def parse_cache(data: bytes) -> dict[str, list[str]]:
    """Return the paths by library name in an ld.so.cache (glibc's dl-cache.h, format 1.1).

    Raises MalformedError (`native.cache`).
    """
    if not data.startswith(_CACHE_MAGIC) or len(data) > MAX_CACHE or len(data) < _CACHE_HEAD.size:
        raise MalformedError("native.cache", "not an ld.so.cache of glibc's format 1.1")
    _, count, _ = _CACHE_HEAD.unpack_from(data)
    end = _CACHE_HEAD.size + count * _CACHE_ENTRY.size
    if count > MAX_ENTRIES or end > len(data):
        raise MalformedError("native.cache", f"{count} entries in {len(data)} bytes")
    found: dict[str, list[str]] = {}
    for _, key, value, _, _ in _CACHE_ENTRY.iter_unpack(data[_CACHE_HEAD.size : end]):
        found.setdefault(_cache_text(data, key), []).append(_cache_text(data, value))
    return found


def _cache_text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + 4096)
    if end < 0:
        raise MalformedError("native.cache", "a string beyond the end")
    return os.fsdecode(data[offset:end])


def _may_be_native(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    if name.endswith(".so") or ".so." in name:
        return True
    if "." in name or not entry.is_file(follow_symlinks=False):
        return False
    return bool(entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR)


def _machine(descriptor: int) -> int:
    head = os.pread(descriptor, 20, 0)
    return int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" else -1


def _expanded(text: str, origin: str, elf: Elf) -> list[str]:
    """Return what a folder with $ORIGIN, $LIB and $PLATFORM can stand for (ld.so(8))."""
    values = {
        "ORIGIN": (origin,),
        "LIB": (f"lib/{_TRIPLETS.get(elf.machine, '')}", "lib64", "lib"),
        "PLATFORM": _PLATFORMS.get(elf.machine, ()),
    }
    found = [text]
    for name, choices in values.items():
        for token in (f"${{{name}}}", f"${name}"):
            if any(token in one for one in found):
                found = [one.replace(token, choice) for one in found for choice in choices]
    return found


def _in_folders(folders: Sequence[str], name: str, machine: int) -> Iterator[str]:
    for folder in folders:
        for sub in _HWCAPS.get(machine, ()):
            yield f"{folder}/{sub}/{name}"
        yield f"{folder}/{name}"


def _default_folders(machine: int) -> list[str]:
    triplet = _TRIPLETS.get(machine)
    multiarch = [f"/lib/{triplet}", f"/usr/lib/{triplet}"] if triplet else []
    return [*multiarch, "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
