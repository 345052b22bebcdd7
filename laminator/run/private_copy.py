"""Private copies: the bytes handed over are exactly the bytes that were hashed.

One pass reads each byte once, hashes it and writes it to a place that only the attester's user
can open. What happens to the source afterwards reaches nobody. A sealed memfd cannot be bound into
a mount namespace, so a script gets a private copy, bound read-only at the path that it was given.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from laminator.errors import MachineError, UsageError, shown
from laminator.measure.files import (
    Finish,
    Measured,
    Sink,
    Write,
    measure_descriptor,
    open_beneath,
    open_source,
)
from laminator.run.bubblewrap import attester_copy

DISK_NAME = "disk"
_MEMORY_SHARE = 4
_MEMORY = Path("/dev/shm")  # noqa: S108 - only a fresh folder of our own inside it is used
_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_PREFIX = "laminator-place-"
_YOUNG_SECONDS = 60
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class PrivateCopy(NamedTuple):
    """What was measured, and the path of the copy of exactly these bytes."""

    measured: Measured
    path: Path


@contextlib.contextmanager
def private_place(size: int, *, disk: Path | None = None) -> Iterator[Path]:
    """Make an empty 0700 folder for about `size` bytes, and remove it with all its content.

    It lies in memory (/dev/shm: a launched attester has one of its own) up to a quarter of what
    is available, else in the folder `disk` (default: `attester_disk`). Raises MachineError.
    """
    parent = _MEMORY if _fits_memory(size) else disk or attester_disk()
    try:
        _remove_abandoned(parent)
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise _failure(error, parent) from error
    try:
        yield path
    finally:
        remove(path)
        os.close(lock)


def attester_disk() -> Path:
    """Return the folder for what does not fit into memory.

    A launched attester has one from the machine's owner, below the machine's folder, beside its
    measured code; elsewhere it is the caller's temporary folder.
    """
    copy = attester_copy()
    return Path(tempfile.gettempdir()) if copy is None else copy.parent / DISK_NAME


def _remove_abandoned(parent: Path) -> None:
    """Remove the places of attesters that were killed: ours, unlocked, not just being made."""
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            status = os.fstat(descriptor)
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _YOUNG_SECONDS:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)
        except OSError:
            continue
        finally:
            os.close(descriptor)


def copy_measured(source: Path, destination: Path) -> PrivateCopy:
    """Copy the file or folder `source` to the new path `destination` and measure what is copied.

    Links inside a folder become copies of their files; empty folders are not copied. A file
    keeps its permission to be executed; nobody may write the copy. Raises UsageError,
    MachineError; leaves nothing behind then.
    """
    descriptor = open_source(source)
    try:
        return PrivateCopy(_copy(descriptor, destination, writable=False), destination)
    except OSError as error:
        raise _failure(error, destination) from error
    finally:
        os.close(descriptor)


def _copy(descriptor: int, destination: Path, *, writable: bool) -> Measured:
    """Copy an open file or folder to a new path; whatever is raised, nothing is left there."""
    if destination.is_symlink() or destination.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            destination.mkdir()
        return measure_descriptor(descriptor, _sink(destination, writable=writable))
    except BaseException:
        remove(destination)
        raise


def store(place: Path, path: str, destination: Path) -> Measured:
    """Measure what a workload left at `path` below `place`, and put these bytes at `destination`.

    No link that the workload made is followed out of the output. The bytes are complete on disk
    before they appear under their name, and replace what was there in one step. Raises
    UsageError if there is nothing, or something that cannot be measured; MachineError, also for
    a full disk. Nothing partial is left.
    """
    root = open_source(place, follow=False)
    try:
        descriptor = open_beneath(root, path)
    finally:
        os.close(root)
    temporary = destination.parent / f".laminator-{secrets.token_hex(8)}"
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        measured = _copy(descriptor, temporary, writable=True)
        if measured.files == 0:
            raise UsageError("output.empty", f"an output without a file: {shown(str(destination))}")
        _synchronise(temporary)
        _replace(temporary, destination)
        _synchronise_one(destination.parent)
    except OSError as error:
        raise _failure(error, destination) from error
    finally:
        os.close(descriptor)
        remove(temporary)
    return measured


def remove(path: Path) -> None:
    """Remove the file or folder at `path` if it is there, whatever its permissions are."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        _open_up(path)
        shutil.rmtree(path)


def _open_up(folder: Path) -> None:
    folder.chmod(stat.S_IRWXU)
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            _open_up(child)


def _sink(destination: Path, *, writable: bool) -> Sink:
    def sink(path: str, status: os.stat_result) -> tuple[Write, Finish]:
        target = destination / path
        if "/" in path:
            target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        executable = bool(status.st_mode & stat.S_IXUSR)
        descriptor = os.open(target, flags, _mode(executable=executable, writable=writable))
        return _writer(descriptor), lambda: os.close(descriptor)

    return sink


def _mode(*, executable: bool, writable: bool) -> int:
    if writable:
        return 0o777 if executable else 0o666
    return 0o555 if executable else 0o444


def _writer(descriptor: int) -> Write:
    return lambda chunk: _write_all(descriptor, chunk)


def _write_all(descriptor: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(descriptor, chunk) :]


def _synchronise(path: Path) -> None:
    if path.is_dir():
        for child in path.rglob("*"):
            _synchronise_one(child)
    _synchronise_one(path)


def _synchronise_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(temporary: Path, destination: Path) -> None:
    """Put `temporary` in the place of `destination`; afterwards `temporary` may be the old one."""
    if not (destination.is_symlink() or destination.exists()):
        temporary.rename(destination)
        return
    library = ctypes.CDLL(None, use_errno=True)
    arguments = (_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(destination))
    if library.renameat2(*arguments, _RENAME_EXCHANGE) == 0:
        return
    if destination.is_dir() or temporary.is_dir():
        remove(destination)
    temporary.rename(destination)


def _fits_memory(size: int) -> bool:
    try:
        room = os.statvfs(_MEMORY)
    except OSError:
        return False
    if room.f_flag & os.ST_NOEXEC or not os.access(_MEMORY, os.W_OK):
        return False
    available = min(room.f_bavail * room.f_frsize, available_memory())
    return available >= _MEMORY_SHARE * max(size, 1)


def available_memory() -> int:
    """Return how many bytes the kernel and this control group can still give."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    limits = [1024 * int(fields["MemAvailable"].split()[0])]
    for path in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text()))
    return min(limits)


def _failure(error: OSError, path: Path) -> MachineError:
    if error.errno in _FULL:
        return MachineError(
            "disk.full", f"no space left for {shown(str(path))}; make room, run again"
        )
    reason = (error.strerror or "failed").lower()
    return MachineError("disk.write", f"cannot write {shown(str(path))}: {reason}")
