"""cryptography's names of encodings, without its SSH formats.

The public module `serialization` imports the SSH formats, and with them `dataclasses` and
`inspect`: 10 ms, an eighth of a whole verification. Where the lighter private module is not
there, the public one serves.
"""

try:
    from cryptography.hazmat.primitives._serialization import Encoding, PublicFormat
except ImportError:  # pragma: no cover - depends on cryptography's version
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["Encoding", "PublicFormat"]
