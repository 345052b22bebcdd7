"""Records digested in a second, beside a plain SHA-256 of each.

.venv/bin/python benchmarks/record_digest.py [RECORDS]
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from laminator.measure.lthash import hash_records
from laminator.records.compare import record_digests
from laminator.records.formats import canonical_records, find_source, infer_schema


def main(number: int) -> None:
    """Print records a second for each step over one CSV file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.csv")
        rows = (f"{row},{row / 7!r},the text of row {row}\n" for row in range(number))
        path.write_text("n,x,text\n" + "".join(rows), encoding="utf-8")
        source = find_source(path, path.name)
        _say("infer the schema", number, lambda: infer_schema(source))
        schema = infer_schema(source)
        _say("read canonical records", number, lambda: list(canonical_records(source, schema)))
        records = list(canonical_records(source, schema))
        _say("LtHash16", number, lambda: hash_records(records, schema.digest))
        _say("SHA-256 of each (peer)", number, lambda: list(record_digests(records)))
        digest = hashlib.shake_256
        _say("SHAKE-256 alone", number, lambda: [digest(item).digest(2048) for item in records])


def _say(what: str, number: int, work: Callable[[], object]) -> None:
    start = time.perf_counter()
    work()
    print(f"{what:24} {number / (time.perf_counter() - start):12,.0f} records/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
