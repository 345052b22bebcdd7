"""The nonces that a verifier issued: a folder with one small file a fact.

    NONCE.issued   that it was issued, and when it expires
    NONCE.used     the id of the card that was accepted with it, and when

NONCE is the nonce in hex. A file appears whole under its name by one link(2), which fails where
the name is taken: of two verifiers that accept two cards at once, one makes the mark. A file is on
the disk before its name is, and its name before anybody goes on. Nothing is ever rewritten.
"""

# As the rest of what `laminator verify` imports:
# ruff: noqa: PTH118

import contextlib
import datetime as dt
import os
import re
import secrets
import stat
from collections.abc import Iterator
from typing import NamedTuple

from laminator.appraise.nonce_rules import IssuedNonce
from laminator.digest import Digest
from laminator.errors import MachineError, shown

NONCE_BYTES = 32
MAX_ENTRY = 400
MAX_ENTRIES = 100_000

_FORMAT = "laminator-nonce-v1"
_TIME = r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"
_ISSUED = re.compile(rf"{_FORMAT}\nnonce ([0-9a-f]+)\nissued {_TIME}\nexpires {_TIME}\n", re.ASCII)
_USED = re.compile(
    rf"{_FORMAT}\nnonce ([0-9a-f]+)\ncard ([0-9a-f]{{64}})\naccepted {_TIME}\n", re.ASCII
)
_NAME = re.compile(rf"([0-9a-f]{{{2 * NONCE_BYTES}}})\.issued", re.ASCII)
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Use(NamedTuple):
    """The card that was accepted with a nonce, and when."""

    card: Digest
    accepted: dt.datetime


class Entry(NamedTuple):
    """A nonce in the store; times are in UTC, to the second."""

    nonce: bytes
    issued: dt.datetime
    expires: dt.datetime
    use: Use | None

    def seen_at(self, clock: dt.datetime) -> IssuedNonce:
        """Return what the checks ask of this entry, at the verifier's real clock."""
        used_by = self.use.card if self.use else None
        return IssuedNonce(self.expires, clock, used_by, self.issued)


def default_store() -> str:
    """Return the user's store: ``laminator/nonces`` in the XDG data folder."""
    data = os.environ.get("XDG_DATA_HOME", "")
    if not data.startswith("/"):
        data = os.path.expanduser("~/.local/share")  # noqa: PTH111 - as above
    return os.path.join(data, "laminator", "nonces")


def add_issued(store: str, issued: dt.datetime, expires: dt.datetime) -> bytes:
    """Make a nonce, keep it in `store`, which is made if need be, and return it.

    Raises MachineError where it cannot be kept.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    lines = f"issued {time_text(issued)}\nexpires {time_text(expires)}\n"
    with _reported(store):
        os.makedirs(store, mode=0o700, exist_ok=True)  # noqa: PTH103 - as above
        with _opened(store) as folder:
            _put(folder, f"{nonce.hex()}.issued", f"{_FORMAT}\nnonce {nonce.hex()}\n{lines}")
            os.fsync(folder)
    return nonce


def find(store: str, nonce: bytes) -> Entry | None:
    """Return the entry of `nonce`, None where the store, or the nonce in it, is not there.

    Raises MachineError for a store or an entry that is not as this module leaves it.
    """
    with _reported(store):
        if not _is_there(store):
            return None
        with _opened(store) as folder:
            entry = _entry(folder, nonce)
            # Another process's mark may not be on the disk yet, and the verdict may rest on it.
            os.fsync(folder)
            return entry


def mark_used(store: str, nonce: bytes, card: Digest, now: dt.datetime) -> Digest:
    """Mark `nonce` as used by `card` unless it is used already; return the card that has it.

    When this returns, the mark is on the disk. Raises MachineError where it cannot be made.
    """
    lines = f"card {card.value.hex()}\naccepted {time_text(now)}\n"
    name = f"{nonce.hex()}.used"
    with _reported(store), _opened(store) as folder:
        with contextlib.suppress(FileExistsError):
            _put(folder, name, f"{_FORMAT}\nnonce {nonce.hex()}\n{lines}")
        os.fsync(folder)
        use = _use(folder, nonce)
        if use is None:
            raise _damaged(name)
        return use.card


def entries(store: str) -> list[Entry]:
    """Return what the store holds, the oldest first. Raises MachineError as `find`."""
    with _reported(store):
        if not _is_there(store):
            return []
        with _opened(store) as folder:
            names = [name for name in os.listdir(folder) if _NAME.fullmatch(name)]  # noqa: PTH208
            if len(names) > MAX_ENTRIES:
                raise MachineError("nonce.store", f"{shown(store)} holds over {MAX_ENTRIES} nonces")
            found = [_entry(folder, bytes.fromhex(name.split(".")[0])) for name in names]
    return sorted(
        (entry for entry in found if entry), key=lambda entry: (entry.issued, entry.nonce)
    )


def _is_there(store: str) -> bool:
    """Say whether the store was ever made.

    Raises OSError where that cannot be seen: a store out of reach may hold the very mark.
    """
    try:
        os.lstat(store)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _reported(store: str) -> Iterator[None]:
    """Turn the system's errors into one that says what to do."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or "failed").lower()
        raise MachineError(
            "nonce.store",
            f"the store of nonces {shown(store)} cannot be used: {reason}; it has to be a folder "
            "that you can write to, on a file system with hard links",
        ) from error


@contextlib.contextmanager
def _opened(store: str) -> Iterator[int]:
    """Open the folder, which has to be the user's own and nobody else's to write to."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(store, flags)
    try:
        state = os.fstat(folder)
        if state.st_uid != os.geteuid() or state.st_mode & _OTHERS_MAY_WRITE:
            raise MachineError(
                "nonce.store",
                f"{shown(store)} is not your own folder, or others may write to it: chmod 700 it",
            )
        yield folder
    finally:
        os.close(folder)


def _put(folder: int, name: str, content: str) -> None:
    """Make the file `name` at once and whole. Raises FileExistsError where it is there."""
    temporary = f".{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
        try:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.unlink(temporary, dir_fd=folder)


def _entry(folder: int, nonce: bytes) -> Entry | None:
    name = f"{nonce.hex()}.issued"
    content = _read(folder, name)
    if content is None:
        return None
    match = _ISSUED.fullmatch(content)
    if match is None or match[1] != nonce.hex():
        raise _damaged(name)
    return Entry(nonce, _time(match[2], name), _time(match[3], name), _use(folder, nonce))


def _use(folder: int, nonce: bytes) -> Use | None:
    name = f"{nonce.hex()}.used"
    content = _read(folder, name)
    if content is None:
        return None
    match = _USED.fullmatch(content)
    if match is None or match[1] != nonce.hex():
        raise _damaged(name)
    return Use(Digest("sha-256", bytes.fromhex(match[2])), _time(match[3], name))


def _read(folder: int, name: str) -> str | None:
    """Return the content of a plain file of the store, None where there is none."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(name) from error
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = os.read(descriptor, MAX_ENTRY + 1) if regular else b""
    finally:
        os.close(descriptor)
    return data.decode("latin-1")


def time_text(time: dt.datetime) -> str:
    """Return a time as the store writes it: UTC, RFC 3339, to the second."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str, name: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise _damaged(name) from error


def _damaged(name: str) -> MachineError:
    return MachineError(
        "nonce.store",
        f"the store's entry {name} is not as laminator wrote it: a nonce of unknown state counts "
        "for nothing; issue another, and remove this entry",
    )
