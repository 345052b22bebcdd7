"""The --nonce option, which every verb reads alike: HEX or FILE."""

import os
import re
import stat

from laminator.claims_codec import MAX_NONCE_BYTES, MIN_NONCE_BYTES
from laminator.errors import UsageError, shown

METAVAR = "HEX|FILE"

_WANTED = f"{MIN_NONCE_BYTES} to {MAX_NONCE_BYTES} bytes in hex"
_HEX = re.compile(r"[0-9A-Fa-f]+", re.ASCII)
_MAX_FILE = 2 * MAX_NONCE_BYTES + len("\r\n")


def parse_nonce(text: str | None) -> bytes | None:
    """Parse a nonce of 8 to 64 bytes in hex, or read the file that `text` names.

    A word of hex digits is the nonce itself; `./name` names a file, whatever its name. The file
    holds one line, the nonce in hex, and nothing else. Raises UsageError.
    """
    if text is None:
        return None
    if _HEX.fullmatch(text):
        return _from_hex(text, f"--nonce {shown(text)}")
    return _from_hex(_read_line(text), f"--nonce: the file {shown(text)}")


def _from_hex(digits: str, where: str) -> bytes:
    size, odd = divmod(len(digits), 2)
    if odd or not MIN_NONCE_BYTES <= size <= MAX_NONCE_BYTES or not _HEX.fullmatch(digits):
        raise UsageError("option.nonce", f"{where} is not one line of {_WANTED}")
    return bytes.fromhex(digits)


def _read_line(path: str) -> str:
    """Return the content of a small regular file, without its line's end."""
    try:
        with open(path, "rb", opener=_open) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(_MAX_FILE + 1) if regular else b""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise UsageError(
            "option.nonce",
            f"--nonce: expected {_WANTED}, or a file that holds them, got {shown(path)} "
            f"({(reason or 'unreadable').lower()})",
        ) from error
    return re.sub(r"\r?\n\Z", "", data.decode("latin-1"))


def _open(path: str, flags: int) -> int:
    """Open without waiting for the writer of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
