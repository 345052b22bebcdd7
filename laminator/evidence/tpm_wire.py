"""Reading and writing the TPM's big-endian structures (TPM 2.0 Library Part 2, clause 4)."""

from laminator.errors import MalformedError

# TPM_ALG_ID (TCG Algorithm Registry, clause 6.10)
ALG_RSA = 0x0001
ALG_SHA1 = 0x0004
ALG_SHA256 = 0x000B
ALG_SHA384 = 0x000C
ALG_SHA512 = 0x000D
ALG_NULL = 0x0010
ALG_RSASSA = 0x0014
ALG_RSAES = 0x0015
ALG_RSAPSS = 0x0016
ALG_OAEP = 0x0017
ALG_ECDSA = 0x0018
ALG_ECDH = 0x0019
ALG_ECDAA = 0x001A
ALG_ECC = 0x0023

# TPM_ECC_CURVE (Part 2, 6.4)
ECC_NIST_P256 = 0x0003
ECC_NIST_P384 = 0x0004
ECC_NIST_P521 = 0x0005

DIGEST_SIZES = {ALG_SHA1: 20, ALG_SHA256: 32, ALG_SHA384: 48, ALG_SHA512: 64}
HASH_NAMES = {ALG_SHA256: "sha256", ALG_SHA384: "sha384", ALG_SHA512: "sha512"}


class Reader:
    """Takes fields off the front of one structure; never reads beyond its end."""

    def __init__(self, data: bytes, path: str, *, max_bytes: int) -> None:
        if len(data) > max_bytes:
            raise MalformedError("tpm.size", f"{len(data)} bytes, limit {max_bytes}", path=path)
        self._data = data
        self._path = path
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises MalformedError where they are missing."""
        end = self._at + size
        if end > len(self._data):
            raise self.malformed(f"ends {end - len(self._data)} bytes early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def uint(self, size: int) -> int:
        """Return the next big-endian unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def sized(self, most: int) -> bytes:
        """Return the contents of a TPM2B of at most `most` bytes."""
        size = self.uint(2)
        if size > most:
            raise self.malformed(f"buffer of {size} bytes, limit {most}")
        return self.take(size)

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)

    def one_of(self, choices: tuple[int, ...], what: str) -> int:
        """Return the next 16-bit value, which is one of `choices`."""
        value = self.uint(2)
        if value not in choices:
            raise self.malformed(f"unknown {what} {value:#06x}")
        return value

    def close(self) -> None:
        """Refuse trailing bytes. Raises MalformedError."""
        if self._at != len(self._data):
            raise self.malformed(f"{len(self._data) - self._at} trailing bytes")

    def malformed(self, message: str) -> MalformedError:
        """Return the error for a value that the structure does not allow here."""
        return MalformedError("tpm.structure", message, path=self._path)


def uint16(value: int) -> bytes:
    """Return a UINT16."""
    return value.to_bytes(2, "big")


def uint32(value: int) -> bytes:
    """Return a UINT32."""
    return value.to_bytes(4, "big")


def uint64(value: int) -> bytes:
    """Return a UINT64."""
    return value.to_bytes(8, "big")


def sized(data: bytes) -> bytes:
    """Return `data` as a TPM2B."""
    return uint16(len(data)) + data
