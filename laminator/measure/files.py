"""Digests of files and folders: every byte is read once, from a descriptor.

A file's digest is plain SHA-256, so that `sha256sum` agrees. A folder's digest is the SHA-256
of its manifest preimage; a file that begins like one is refused, so that no file passes for a
folder. A manifest names files only: empty folders, modes, owners and times are not part of it.
Names are recorded as they are.

A link inside a folder counts as the regular file that it names, under the link's own path, if
every step of the way stays inside the folder. Links to folders, links that leave the folder and
everything that is neither file nor folder are refused, as are names that are not UTF-8 and two
names that are equal after NFC normalisation.
"""

import hashlib
import os
import stat
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from laminator.cbor import encode
from laminator.digest import Digest
from laminator.errors import MachineError, UsageError, shown

MANIFEST_DOMAIN = b"laminator-manifest-v1\x00"
MAX_FILES = 1_000_000
MAX_DEPTH = 64
MAX_LINK_STEPS = 8

_CHUNK = 1 << 20
_THREAD_BYTES = 4 << 20
_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_FOLDER_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW


class _Buffer(threading.local):
    """Memory to read into, a thread's own: what is read again and again stays in the cache."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_CHUNK))


_buffer = _Buffer()

Write = Callable[[memoryview], None]
Finish = Callable[[], None]
Sink = Callable[[str, os.stat_result], tuple[Write, Finish]]
"""Given a relative path and what fstat says, returns a writer and what to call at the end."""


class ManifestEntry(NamedTuple):
    """One file of a folder: relative path with `/`, size in bytes, SHA-256 (32 bytes)."""

    path: str
    size: int
    digest: bytes


class Measured(NamedTuple):
    """What was read: digest, total size in bytes, number of files (1 for a file)."""

    digest: Digest
    size: int
    files: int


class Found(NamedTuple):
    """A file of a folder: its `path`, and the `real` path inside the folder that is read."""

    path: str
    real: str


def manifest_preimage(entries: Iterable[ManifestEntry]) -> bytes:
    """Return the bytes whose SHA-256 is a folder's digest: domain, then CBOR of the entries.

    Entries are sorted by the UTF-8 bytes of their paths.
    """
    ordered = sorted(entries, key=lambda entry: entry.path.encode())
    return MANIFEST_DOMAIN + encode([list(entry) for entry in ordered])


def measure_manifest(entries: Sequence[ManifestEntry]) -> Measured:
    """Return the folder digest of `entries` with their total size and number."""
    value = hashlib.sha256(manifest_preimage(entries)).digest()
    return Measured(Digest("sha-256", value), sum(entry.size for entry in entries), len(entries))


def measure_path(path: str | os.PathLike[str]) -> Measured:
    """Measure the file or folder at `path`; a link given as `path` itself is followed.

    Raises UsageError for what cannot be measured, MachineError when reading fails.
    """
    descriptor = open_source(path)
    try:
        return measure_descriptor(descriptor)
    finally:
        os.close(descriptor)


def measure_descriptor(descriptor: int, sink: Sink | None = None) -> Measured:
    """Measure an open file or folder; every chunk read goes to `sink` as well.

    A plain file reaches `sink` under the empty path. Raises as `measure_path`.
    """
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        return measure_manifest(measure_files(descriptor, list_files(descriptor), sink))
    head = bytearray()
    size, digest = _read_file(descriptor, "", _noting(head, sink or _nowhere))
    if head == MANIFEST_DOMAIN:
        message = "a file that begins like the manifest of a folder could pass for that folder"
        raise UsageError("files.manifest", message)
    return Measured(Digest("sha-256", digest), size, 1)


def _nowhere(_path: str, _status: os.stat_result) -> tuple[Write, Finish]:
    return lambda _chunk: None, lambda: None


def _noting(head: bytearray, sink: Sink) -> Sink:
    """Return `sink`, with the first bytes that it gets noted in `head`."""

    def noting(path: str, status: os.stat_result) -> tuple[Write, Finish]:
        write, finish = sink(path, status)

        def note(chunk: memoryview) -> None:
            head.extend(chunk[: len(MANIFEST_DOMAIN) - len(head)])
            write(chunk)

        return note, finish

    return noting


def open_source(path: str | os.PathLike[str], *, follow: bool = True) -> int:
    """Open a file or folder for measuring; the caller closes the descriptor.

    Raises UsageError if `path` is missing, unreadable, or neither file nor folder.
    """
    flags = _FILE_FLAGS if follow else _FILE_FLAGS | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise _refusal(os.fspath(path), error) from error
    return _checked(descriptor, os.fspath(path))


def open_beneath(root: int, path: str) -> int:
    """Open the file or folder at `path` below the folder `root`, through no link at all.

    Raises UsageError.
    """
    *folders, name = path.split("/")
    if {"", ".", ".."} & {*folders, name}:
        raise UsageError("files.path", f"not a plain relative path: {shown(path)}")
    current = root
    try:
        for folder in folders:
            parent, current = current, os.open(folder, _FOLDER_FLAGS, dir_fd=current)
            if parent != root:
                os.close(parent)
        descriptor = os.open(name, _FILE_FLAGS | os.O_NOFOLLOW, dir_fd=current)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        if current != root:
            os.close(current)
    return _checked(descriptor, path)


def list_files(root: int) -> tuple[Found, ...]:
    """List the files below the open folder `root`, sorted by the UTF-8 bytes of their paths.

    Raises UsageError for what a manifest cannot hold.
    """
    found: list[Found] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        if folder.count("/") >= MAX_DEPTH:
            raise UsageError("files.depth", f"folders nested deeper than {MAX_DEPTH}")
        files, folders = _list_folder(root, folder)
        found += files
        pending += folders
        if len(found) > MAX_FILES:
            raise UsageError("files.count", f"more than {MAX_FILES} files")
    return tuple(sorted(found, key=lambda item: item.path.encode()))


def measure_files(
    root: int, found: Sequence[Found], sink: Sink | None = None
) -> tuple[ManifestEntry, ...]:
    """Read each file once, over all cores, and return the manifest's sorted entries.

    `sink` is called from several threads. Raises as `measure_path`.
    """

    def measure(item: Found) -> ManifestEntry:
        descriptor = open_beneath(root, item.real)
        try:
            return ManifestEntry(item.path, *_read_file(descriptor, item.path, sink))
        finally:
            os.close(descriptor)

    return _over_all_cores(measure, found)


def _read_file(descriptor: int, path: str, sink: Sink | None) -> tuple[int, bytes]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise UsageError("files.kind", f"neither file nor folder: {shown(path)}")
    if sink is None:
        return hash_descriptor(descriptor)
    write, finish = sink(path, status)
    try:
        return hash_descriptor(descriptor, write)
    finally:
        finish()


def hash_descriptor(descriptor: int, write: Write | None = None) -> tuple[int, bytes]:
    """Read `descriptor` to its end; return the number of bytes and their SHA-256.

    Each chunk also goes to `write`, while another thread hashes it if the file is large.
    Raises MachineError when reading fails.
    """
    if write is not None and os.fstat(descriptor).st_size > _THREAD_BYTES:
        return _hash_and_write(descriptor, write)
    digest, size, view = hashlib.sha256(), 0, _buffer.view
    while count := _read_into(descriptor, view):
        chunk = view[:count]
        digest.update(chunk)
        if write is not None:
            write(chunk)
        size += count
    return size, digest.digest()


def _hash_and_write(descriptor: int, write: Write) -> tuple[int, bytes]:
    """Hash in a second thread what this one writes; both release the interpreter's lock."""
    from concurrent.futures import Future, ThreadPoolExecutor

    digest, size = hashlib.sha256(), 0
    views = [memoryview(bytearray(_CHUNK)) for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        hashed: Future[None] | None = None
        while count := _read_into(descriptor, views[0]):
            chunk = views[0][:count]
            if hashed is not None:
                hashed.result()
            hashed = pool.submit(digest.update, chunk)
            write(chunk)
            size += count
            views.reverse()
        if hashed is not None:
            hashed.result()
    return size, digest.digest()


def _read_into(descriptor: int, view: memoryview) -> int:
    try:
        return os.readv(descriptor, [view])
    except OSError as error:
        raise MachineError("files.read", f"reading failed: {error.strerror}") from error


def _over_all_cores(
    measure: Callable[[Found], ManifestEntry], found: Sequence[Found]
) -> tuple[ManifestEntry, ...]:
    """Apply `measure` to each item; the threads take the next item from one shared iterator."""
    workers = min(os.cpu_count() or 1, len(found))
    if workers <= 1:
        return tuple(measure(item) for item in found)
    from concurrent.futures import ThreadPoolExecutor

    waiting = iter(found)

    def work() -> list[ManifestEntry]:
        entries = []
        try:
            for item in waiting:
                entries.append(measure(item))  # noqa: PERF401 - the threads share the iterator
        except BaseException:
            deque(waiting, maxlen=0)
            raise
        return entries

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work) for _ in range(workers)]
        entries = [entry for task in running for entry in task.result()]
    return tuple(sorted(entries, key=lambda entry: entry.path.encode()))


def _list_folder(root: int, folder: str) -> tuple[list[Found], list[str]]:
    """Return the files directly in `folder` (relative, "" for `root` itself) and its folders."""
    descriptor = _open_folder(root, folder)
    files, folders = [], []
    names: set[str] = set()
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                path = _joined(folder, entry.name, names)
                if entry.is_symlink():
                    files.append(Found(path, _link_target(root, path)))
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_file(follow_symlinks=False):
                    files.append(Found(path, path))
                else:
                    raise UsageError("files.kind", f"neither file nor folder: {shown(path)}")
    except OSError as error:
        raise _refusal(folder, error) from error
    finally:
        os.close(descriptor)
    return files, folders


def _open_folder(root: int, folder: str) -> int:
    if folder == "":
        return os.open(".", _FOLDER_FLAGS, dir_fd=root)
    return open_beneath(root, folder)


def _joined(folder: str, name: str, seen: set[str]) -> str:
    path = f"{folder}/{name}" if folder else name
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError("files.name", f"a name that is not UTF-8: {shown(path)}") from error
    normal = unicodedata.normalize("NFC", name)
    if normal in seen:
        raise UsageError("files.duplicate", f"two names equal after NFC: {shown(path)}")
    seen.add(normal)
    return path


def _link_target(root: int, path: str) -> str:
    """Follow the link at `path` inside `root` to the path of a regular file.

    Each step is resolved on the text; `open_beneath` later refuses any link on the way, so that
    `..` in a link means what it says.
    """
    current = path
    for _ in range(MAX_LINK_STEPS):
        folder, _, name = current.rpartition("/")
        parent = _open_folder(root, folder)
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode):
                return current
            if not stat.S_ISLNK(mode):
                raise UsageError("files.link", f"a link to something but a file: {shown(path)}")
            text = os.readlink(name, dir_fd=parent)
        except OSError as error:
            raise _refusal(path, error) from error
        finally:
            os.close(parent)
        current = os.path.normpath(f"{folder}/{text}" if folder else text)
        if text.startswith("/") or current == "." or current.split("/")[0] == "..":
            raise UsageError(
                "files.link", f"a link that leaves the folder: {shown(path)}; copy the file there"
            )
    raise UsageError("files.link", f"too many links in a row: {shown(path)}")


def _checked(descriptor: int, path: str) -> int:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return descriptor
    os.close(descriptor)
    raise UsageError("files.kind", f"neither file nor folder: {shown(path)}")


def _refusal(path: str, error: OSError) -> UsageError:
    reason = (error.strerror or "unreadable").lower()
    return UsageError("files.open", f"cannot open {shown(path)}: {reason}")
