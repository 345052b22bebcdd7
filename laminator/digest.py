"""Digests with the name of their algorithm."""

import hashlib
from typing import NamedTuple

from laminator.errors import MalformedError, shown

SIZES = {"sha-256": 32, "sha-384": 48}


class Digest(NamedTuple):
    """A digest; `algorithm` is a name of the IANA named information registry."""

    algorithm: str
    value: bytes

    def __str__(self) -> str:
        """Return ``algorithm:hex``."""
        return f"{self.algorithm}:{self.value.hex()}"


def sha256(data: bytes) -> Digest:
    """Return the SHA-256 digest of `data`."""
    return Digest("sha-256", hashlib.sha256(data).digest())


def parse_digest(text: str) -> Digest:
    """Parse ``algorithm:hex`` with lower-case hex of the algorithm's exact length.

    Raises MalformedError.
    """
    algorithm, _, digits = text.partition(":")
    size = SIZES.get(algorithm)
    if size is None or len(digits) != 2 * size or set(digits) - set("0123456789abcdef"):
        raise MalformedError("digest.text", f"expected sha-256:<64 hex digits>, got {shown(text)}")
    return Digest(algorithm, bytes.fromhex(digits))
