"""The --nonce option, which every verb reads alike."""

from laminator.claims_codec import MAX_NONCE_BYTES, MIN_NONCE_BYTES
from laminator.errors import UsageError, shown


def parse_nonce(text: str | None) -> bytes | None:
    """Parse a nonce of 8 to 64 bytes in hex. Raises UsageError."""
    if text is None:
        return None
    try:
        nonce = bytes.fromhex(text)
    except ValueError:
        nonce = b""
    if not MIN_NONCE_BYTES <= len(nonce) <= MAX_NONCE_BYTES:
        wanted = f"{MIN_NONCE_BYTES} to {MAX_NONCE_BYTES} bytes in hex"
        raise UsageError("option.nonce", f"--nonce: expected {wanted}, got {shown(text)}")
    return nonce
