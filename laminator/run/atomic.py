"""Small files that appear under their name complete, or not at all."""

import contextlib
import os
import secrets
from pathlib import Path

from laminator.errors import MachineError, shown


def write_atomically(path: Path, content: bytes, *, mode: int) -> None:
    """Put `content` at `path` with `mode`; it is on disk before the name changes.

    Raises MachineError, also for a full disk; what was at `path` is then still there.
    """
    temporary = path.parent / f".laminator-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = (error.strerror or "failed").lower()
        message = f"cannot write {shown(str(path))}: {reason}"
        raise MachineError("card.write", message) from error
