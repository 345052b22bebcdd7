"""Small files that appear under their names complete, or not at all."""

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.errors import MachineError, shown


class File(NamedTuple):
    """A file to write: its place, its whole content, its permissions.

    The umask takes from the permissions, unless they are `exact`.
    """

    path: Path
    content: bytes
    mode: int
    exact: bool = False


def write_atomically(path: Path, content: bytes, *, mode: int) -> None:
    """Put one file in its place; raises as `write_together`."""
    write_together([File(path, content, mode)])


def write_together(files: Sequence[File]) -> None:
    """Put `files` in their places; all of them are on disk before the first name changes.

    Raises MachineError, also for a full disk; what was in the places is then still there.
    """
    staged: list[Path] = []
    try:
        for file in files:
            staged.append(file.path.parent / f".laminator-{secrets.token_hex(8)}")
            _write(staged[-1], file)
        for temporary, file in zip(staged, files, strict=True):
            temporary.replace(file.path)
    except OSError as error:
        reason = (error.strerror or "failed").lower()
        message = f"cannot write {shown(str(files[len(staged) - 1].path))}: {reason}"
        raise MachineError("card.write", message) from error
    finally:
        for temporary in staged:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _write(path: Path, file: File) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, file.mode)
    with os.fdopen(descriptor, "wb") as stream:
        if file.exact:
            os.fchmod(descriptor, file.mode)
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())
