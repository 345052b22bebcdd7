"""Seeds that everybody can compute again: from a verifier's nonce, or from a stated number."""

import hashlib

from laminator import cbor
from laminator.claims import SEED_FROM_NONCE, Seed
from laminator.errors import MalformedError

SEED_BYTES = 32
NUMBER_RULE = "number"

_SEED_DOMAIN = b"laminator-seed-v1\x00"
_SHUFFLE_DOMAIN = b"laminator-shuffle-v1\x00"
_INDEX_BYTES = 8
_WORKLOAD_BYTES = 8


def seed_bytes(rule: Seed, nonce: bytes | None) -> bytes:
    """Return the run's seed, 32 bytes, by the rule in its claims.

    SHA-256("laminator-seed-v1" || 00 || CBOR ["nonce", nonce]), or ["number", N]. Raises
    MalformedError for rule "nonce" without a nonce.
    """
    if rule == SEED_FROM_NONCE:
        if nonce is None:
            raise MalformedError("seed.nonce", "a seed from the nonce needs a nonce")
        return hashlib.sha256(_SEED_DOMAIN + cbor.encode((SEED_FROM_NONCE, nonce))).digest()
    return hashlib.sha256(_SEED_DOMAIN + cbor.encode((NUMBER_RULE, rule))).digest()


def workload_seed(seed: bytes) -> int:
    """Return the number that a workload is given: the seed's first 64 bits, big-endian."""
    return int.from_bytes(seed[:_WORKLOAD_BYTES], "big")


def draw_rows(seed: bytes, rows: int, sample: int) -> tuple[int, ...]:
    """Return which `sample` of the `rows` rows (from 0) are drawn, in ascending order.

    They are those with the least SHA-256(seed || row), the row in 8 bytes, big-endian: anybody who
    knows rule, nonce and the number of rows can compute them again. Raises MalformedError for
    more rows than there are, and for none.
    """
    if not 0 < sample <= rows:
        raise MalformedError("seed.sample", f"cannot draw {sample} of {rows} rows")

    return tuple(sorted(_by_digest(range(rows), seed)[:sample]))


def shuffled(rows: int, seed: bytes, secret: bytes) -> tuple[int, ...]:
    """Return the rows from 0 in an order that follows `seed` and `secret`, 32 random bytes.

    Who knows the seed alone knows nothing of the order; who chose the secret's source badly still
    gets another order for another seed.
    """
    return _by_digest(range(rows), hashlib.sha256(_SHUFFLE_DOMAIN + secret + seed).digest())


def _by_digest(rows: range, key: bytes) -> tuple[int, ...]:
    """Return `rows` in the order of SHA-256(key || row)."""

    def digest(row: int) -> bytes:
        return hashlib.sha256(key + row.to_bytes(_INDEX_BYTES, "big")).digest()

    return tuple(sorted(rows, key=digest))
