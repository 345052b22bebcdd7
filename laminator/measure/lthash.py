"""LtHash16: a digest of a multiset of records that does not depend on their order.

Each record is expanded by SHAKE-256 to 1,024 lanes of 16 bits; the digest is the sum of these
vectors, lane by lane modulo 2**16. Sums of parts are the sum of the whole. Source: Bellare and
Micciancio, "A New Paradigm for Collision-Free Hashing" (1997); Lewi, Kim, Maykov and Weis,
"Securing Update Propagation with Homomorphic Hashing" (ePrint 2019/227), whose lthash16-1024 has
these parameters (with BLAKE2x in place of SHAKE-256).
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from laminator.errors import MalformedError

DOMAIN = b"tag:laminator,2026:record-v1\0"
LANES = 1024
STATE_BYTES = 2 * LANES
MAX_COUNT = (1 << 64) - 1
_SLOTS = LANES // 2
_MASK = int.from_bytes(b"\xff\xff\0\0" * _SLOTS, "little")
_BORROW = int.from_bytes(b"\0\0\1\0" * _SLOTS, "little")
_FOLD_AFTER = 65_535
"""So many lanes of 16 bits and a folded sum add up to less than 2**32."""


class Multiset(NamedTuple):
    """The digest of `number` records: `state` is 1,024 little-endian lanes, 2,048 bytes."""

    number: int
    state: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the state, 32 bytes."""
        return hashlib.sha256(self.state).digest()

    def __add__(self, other: object) -> "Multiset":
        """Return the digest of both multisets together. Raises MalformedError beyond MAX_COUNT."""
        if not isinstance(other, Multiset):
            return NotImplemented
        halves = zip(_split(self.state), _split(other.state), strict=True)
        even, odd = ((mine + theirs) & _MASK for mine, theirs in halves)
        return _checked(self.number + other.number, even, odd)

    def __sub__(self, other: object) -> "Multiset":
        """Return the digest of what is left without `other`'s records.

        Whether they were in it is not seen, but by the count: MalformedError for more than it has.
        """
        if not isinstance(other, Multiset):
            return NotImplemented
        halves = zip(_split(self.state), _split(other.state), strict=True)
        even, odd = ((mine + _BORROW - theirs) & _MASK for mine, theirs in halves)
        return _checked(self.number - other.number, even, odd)


EMPTY = Multiset(0, bytes(STATE_BYTES))


def hash_records(records: Iterable[bytes], schema: bytes) -> Multiset:
    """Return the multiset digest of canonical records under the schema digest (32 bytes)."""
    prefix = hashlib.shake_256(DOMAIN + schema)
    even = odd = count = 0
    for count, record in enumerate(records, start=1):
        expanded = prefix.copy()
        expanded.update(record)
        lanes = int.from_bytes(expanded.digest(STATE_BYTES), "little")
        even += lanes & _MASK
        odd += lanes >> 16 & _MASK
        if count % _FOLD_AFTER == 0:
            even &= _MASK
            odd &= _MASK
    return _checked(count, even & _MASK, odd & _MASK)


def parse_state(number: int, state: bytes) -> Multiset:
    """Return the multiset that a claim states. Raises MalformedError."""
    if len(state) != STATE_BYTES or not 0 <= number <= MAX_COUNT:
        raise MalformedError("lthash.state", f"expected a count and {STATE_BYTES} bytes of lanes")
    return Multiset(number, state)


def _split(state: bytes) -> tuple[int, int]:
    lanes = int.from_bytes(state, "little")
    return lanes & _MASK, lanes >> 16 & _MASK


def _checked(number: int, even: int, odd: int) -> Multiset:
    if not 0 <= number <= MAX_COUNT:
        raise MalformedError("lthash.count", f"a multiset of {number} records")
    return Multiset(number, (even | odd << 16).to_bytes(STATE_BYTES, "little"))
