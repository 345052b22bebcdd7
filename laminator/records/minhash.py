"""Near duplicates by MinHash: an estimate, apart from the exact comparison.

A record's set has the shingles of its text columns (five characters each, of the lower-case text
with blanks made one) and each other value as a whole, all with their column's name. Its signature
has, for each permutation h -> (a h + b) mod (2**61 - 1), the least value over the set of keyed
BLAKE2b digests. Two records are near duplicates where the share of equal places is at least the
threshold. Candidates come from bands of the signatures. Source: Broder, "On the resemblance and
containment of documents" (1997); bands: Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", section 3.4.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from laminator.cbor import Value, encode
from laminator.errors import UsageError
from laminator.records.schema import Schema

PRIME = (1 << 61) - 1
PERMUTATIONS = 128
SHINGLE = 5
SEED = 1
MAX_RECORDS = 200_000
_MAX_SHINGLES = 100_000

Signature = tuple[int, ...]


class Method(NamedTuple):
    """The parameters of the estimate: `threshold` in (0, 1]."""

    threshold: float
    permutations: int = PERMUTATIONS
    shingle: int = SHINGLE
    seed: int = SEED

    @property
    def rows(self) -> int:
        """Rows of a band: the most for which a pair at the threshold is missed by 1 in 1,000."""
        for rows in (16, 8, 4, 2):
            if (1 - self.threshold**rows) ** (self.permutations // rows) < 1 / 1000:
                return rows
        return 1

    def plain(self) -> dict[str, Value]:
        """Return the parameters as they stand in claims."""
        return {"method": "minhash", **self._asdict(), "band-rows": self.rows}


def make_method(threshold: float) -> Method:
    """Return the method with this threshold. Raises UsageError."""
    if not 0 < threshold <= 1:
        raise UsageError("records.threshold", f"--threshold {threshold}: above 0, at most 1")
    return Method(threshold)


def signer(method: Method, schema: Schema) -> Callable[[Mapping[str, object]], Signature]:
    """Return the function that makes a record's signature from its values by name."""
    draw = random.Random(method.seed)  # noqa: S311 - anybody may repeat it
    pairs = [(draw.randrange(1, PRIME), draw.randrange(PRIME)) for _ in range(method.permutations)]
    names = [item.name for item in schema.fields]

    def sign(values: Mapping[str, object]) -> Signature:
        hashes = {
            int.from_bytes(hashlib.blake2b(part, digest_size=8).digest(), "big") % PRIME
            for name in names
            for part in _parts(name, values.get(name), method.shingle)
        }
        return tuple(min((a * h + b) % PRIME for h in hashes) for a, b in pairs)

    return sign


def count_near(one: Iterable[Signature], other: Iterable[Signature], method: Method) -> int:
    """Return how many records of `other` have a near duplicate in `one`.

    Raises UsageError for more than MAX_RECORDS in `one`.
    """
    rows = method.rows
    starts = range(0, method.permutations, rows)
    bands: dict[tuple[int, Signature], list[Signature]] = {}
    for number, signature in enumerate(sorted(set(one))):
        if number == MAX_RECORDS:
            message = f"near duplicates are sought among {MAX_RECORDS} distinct records at most"
            raise UsageError("records.near", message)
        for start in starts:
            bands.setdefault((start, signature[start : start + rows]), []).append(signature)
    least = method.threshold * method.permutations

    def is_near(signature: Signature) -> bool:
        found = (
            candidate
            for start in starts
            for candidate in bands.get((start, signature[start : start + rows]), ())
        )
        return any(sum(map(int.__eq__, signature, candidate)) >= least for candidate in found)

    return sum(map(is_near, other))


def _parts(name: str, value: object, size: int) -> Iterable[bytes]:
    """Yield the elements that one value gives to its record's set."""
    if not isinstance(value, str):
        yield encode([name, value])  # type: ignore[list-item]
        return
    text = " ".join(value.lower().split())
    for start in range(min(max(1, len(text) - size + 1), _MAX_SHINGLES)):
        yield encode([name, text[start : start + size]])
