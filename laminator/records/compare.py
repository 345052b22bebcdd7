"""Compare data sets by their records: shared ones exactly, similar ones by MinHash.

Exact: SHA-256 of each canonical record under one schema, sorted, and merged. The digests are
sorted in runs of bounded size that are spilled to an unnamed file and merged from there.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TypeAlias

DIGEST_BYTES = 32
_RUN = 500_000
"""Digests that are sorted in memory at once, about 50 MB."""
_READ = 1024

Spill: TypeAlias = SpooledTemporaryFile[bytes]


def count_shared(one: Iterable[bytes], other: Iterable[bytes], place: Path | None = None) -> int:
    """Return how many distinct records occur in both, by their digests of 32 bytes each.

    `place` is the folder for what does not fit into memory.
    """
    with _spill(place) as left, _spill(place) as right:
        tagged = heapq.merge(
            ((digest, 0) for digest in _distinct(one, left)),
            ((digest, 1) for digest in _distinct(other, right)),
        )
        return sum(len(list(group)) > 1 for _, group in groupby(tagged, key=_first))


def record_digests(records: Iterable[bytes]) -> Iterator[bytes]:
    """Yield SHA-256 of each record."""
    return (hashlib.sha256(record).digest() for record in records)


def _spill(place: Path | None) -> Spill:
    """Return a file that touches the disk when the first run is spilled."""
    return SpooledTemporaryFile(max_size=DIGEST_BYTES, dir=None if place is None else str(place))


def _first(item: tuple[bytes, int]) -> bytes:
    return item[0]


def _distinct(digests: Iterable[bytes], file: Spill) -> Iterator[bytes]:
    """Yield the digests sorted, each once."""
    starts = [0]
    run: set[bytes] = set()
    for digest in digests:
        run.add(digest)
        if len(run) == _RUN:
            file.write(b"".join(sorted(run)))
            starts.append(file.tell())
            run.clear()
    file.flush()
    spilled = (_spilled(file, *ends) for ends in pairwise(starts))
    merged = heapq.merge(*spilled, sorted(run))
    return (digest for digest, _ in groupby(merged))


def _spilled(file: Spill, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        file.seek(start)
        block = file.read(min(_READ * DIGEST_BYTES, end - start))
        start += len(block)
        yield from (block[at : at + DIGEST_BYTES] for at in range(0, len(block), DIGEST_BYTES))
