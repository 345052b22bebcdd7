"""The user's own list of runs: JSON lines, one when a number is spent and one when a run ends.

    {"event": "started", "ticket": …, "run": HEX, "number": N, "time": RFC 3339, "card": PATH,
     "key": HEX}
    {"event": "ended", …, "outcome": WORD, "status": N, "id": HEX, "failure": PATH,
     "failure_digest": HEX}

`key` is SHA-256 of the attestation key's SubjectPublicKeyInfo; lines of older versions have none.
It helps its owner to account for spent numbers; nobody else believes it. The last `ended` line
of a run counts. Lines that are not readable are skipped. While a run's attester lives, it holds a
lock on one byte far behind the file's end, which its end releases, whatever ends it.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from laminator.errors import MachineError
from laminator.run.outcome import Outcome

MAX_READ_BYTES = 64 * 1024 * 1024
"""More than the newest part of this size is never read."""
_MAX_LINE = 64 * 1024
_MAX_NUMBER = 1 << 64
_RUN = re.compile(r"[0-9a-f]{32}")
_FALLOC_FL_KEEP_SIZE = 1
_OPENING = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Entry(NamedTuple):
    """One line; what has a default belongs to the end of a run, or is of newer versions."""

    event: str
    ticket: str
    run: str
    number: int
    card: str
    outcome: str = ""
    status: int = 0
    id: str = ""
    key: str = ""
    failure: str = ""
    failure_digest: str = ""


class Failure(NamedTuple):
    """A failure record that was written: its place and the SHA-256 of its bytes."""

    path: Path
    digest: bytes


def default_path() -> Path:
    """Return the list's place: runs.jsonl under the user's state folder (XDG)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "laminator" / "runs.jsonl"


class RunRecord:
    """One run's lines: opened before the number is spent, so that a spent number is logged.

    `failures` is the folder for failure records, None without a list; `card_id` the id of the
    card that is in its place, `failure` the failure record that is, `unrecorded` why there is none.
    """

    def __init__(self, path: str | None, *, ticket: str, card: str) -> None:
        """Open the list at `path`, made where it is missing, with room for a run's lines.

        Raises MachineError.
        """
        self._descriptor = None if path is None else _open(Path(path))
        if self._descriptor is not None:
            _reserve(self._descriptor)
        self._entry = Entry("started", ticket, "", 0, card)
        self.failures = None if path is None else Path(path).parent / "failures"
        self.card_id = b""
        self.failure: Failure | None = None
        self.unrecorded = ""

    @property
    def number(self) -> int:
        """The number that this run spent, 0 before it is."""
        return self._entry.number

    def started(self, run: bytes, number: int, key: bytes = b"") -> None:
        """Log that `number` is spent for the run id `run` and `key`. Raises MachineError."""
        self._entry = self._entry._replace(run=run.hex(), number=number, key=key.hex())
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(run.hex()))
        self._append(self._entry)

    def ended(self, outcome: Outcome) -> None:
        """Log how the run ended, if it had started. Raises MachineError."""
        if self.number:
            self._append(_ended(self._entry, outcome, self.failure))

    def close(self) -> None:
        """Close the list."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, entry: Entry) -> None:
        if self._descriptor is not None:
            append(self._descriptor, entry)


def complete(path: Path, ticket: str, outcome: Outcome) -> Entry | None:
    """Return the last line of the run that carries `ticket`, after its attester has ended.

    Where the attester died without a word, the end is logged as `outcome` first. None where no
    number was spent. Raises MachineError.
    """
    found = entries(path, ticket)
    if not found or found[-1].event == "ended":
        return found[-1] if found else None
    last = _ended(found[-1], outcome, None)
    descriptor = _open(path)
    try:
        append(descriptor, last)
    finally:
        os.close(descriptor)
    return last


def _ended(entry: Entry, outcome: Outcome, failure: Failure | None) -> Entry:
    word, status, _, card_id = outcome
    ended = entry._replace(event="ended", outcome=word, status=status, id=card_id.hex())
    if failure is None:
        return ended
    return ended._replace(failure=str(failure.path), failure_digest=failure.digest.hex())


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | _OPENING, 0o600)
    except OSError as error:
        message = f"cannot write the list of runs {path}: {error.strerror}; set XDG_STATE_HOME"
        raise MachineError("runs.open", message) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        message = f"the list of runs {path} is no file; move it away, or set XDG_STATE_HOME"
        raise MachineError("runs.open", message)
    return descriptor


def _reserve(descriptor: int) -> None:
    """Keep room on the disk for a run's lines, before a number is spent. Raises MachineError.

    A file system that keeps no room for anybody, or refuses to say, is taken as it is.
    """
    end = ctypes.c_int64(os.fstat(descriptor).st_size)
    room = ctypes.c_int64(2 * _MAX_LINE)
    library = ctypes.CDLL(None, use_errno=True)
    if library.fallocate(descriptor, _FALLOC_FL_KEEP_SIZE, end, room) != 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSPC, errno.EDQUOT):
            os.close(descriptor)
            message = f"cannot write the list of runs: {os.strerror(number)}; make room"
            raise MachineError("runs.room", message)


def append(descriptor: int, entry: Entry) -> None:
    """Append one line, in one write, after whatever half a line there is. Raises MachineError."""
    now = datetime.now(tz=UTC).isoformat(timespec="seconds")
    line = json.dumps({**entry._asdict(), "time": now}) + "\n"
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) not in (b"", b"\n"):
            line = "\n" + line
        written = os.write(descriptor, line.encode())
    except OSError as error:
        message = f"cannot write the list of runs: {error.strerror}"
        raise MachineError("runs.write", message) from error
    if written < len(line):
        raise MachineError("runs.write", "cannot write the list of runs: no space left")


def entries(path: Path, ticket: str) -> tuple[Entry, ...]:
    """Return the lines of the run that carries `ticket`, in order."""
    return tuple(entry for entry in all_entries(path) if entry.ticket == ticket)


def all_entries(path: Path) -> Iterator[Entry]:
    """Yield the readable lines of the list's newest part. Raises MachineError where it is none.

    A list that does not exist has no lines.
    """
    descriptor = _open_to_read(path)
    if descriptor is None:
        return
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as lines:
        os.lseek(descriptor, max(0, os.fstat(descriptor).st_size - MAX_READ_BYTES), os.SEEK_SET)
        while line := lines.readline(_MAX_LINE):
            entry = _parse(line)
            if entry is not None:
                yield entry


def is_cut(path: Path) -> bool:
    """Tell whether the list is so long that its oldest lines are not read."""
    try:
        return path.stat().st_size > MAX_READ_BYTES
    except OSError:
        return False


def lives(path: Path, run: str) -> bool:
    """Tell whether the attester of the run id `run` lives, by the lock that it holds."""
    descriptor = _open_to_read(path)
    if descriptor is None:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _place(run))
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _open_to_read(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"cannot read the list of runs {path}: {error.strerror}"
        raise MachineError("runs.read", message) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MachineError("runs.read", f"the list of runs {path} is no file; move it away")
    return descriptor


def _place(run: str) -> int:
    """Return the byte that stands for a run: no list grows to where they lie."""
    return (1 << 60) + int(run[:14], 16)


def _parse(line: str) -> Entry | None:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(plain, dict):
        return None
    known = {**Entry._field_defaults, **{key: plain[key] for key in Entry._fields if key in plain}}
    try:
        entry = Entry(**known)
    except TypeError:
        return None
    return entry if _is_typed(entry) else None


def _is_typed(entry: Entry) -> bool:
    numbers = (entry.number, entry.status)
    texts = [value for name, value in entry._asdict().items() if name not in ("number", "status")]
    return (
        all(isinstance(text, str) for text in texts)
        and all(type(number) is int and 0 <= number < _MAX_NUMBER for number in numbers)
        and _RUN.fullmatch(entry.run) is not None
    )
