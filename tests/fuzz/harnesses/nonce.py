"""Nonces: the option's word, the file that it may name, and the entries of the verifier's store."""

import datetime as dt
import os
import tempfile
from pathlib import Path

from harnesses.harness import Harness, parsed
from laminator.cli.nonce_option import parse_nonce
from laminator.digest import sha256
from laminator.errors import MachineError, UsageError
from laminator.nonce.store import Entry, add_issued, find, mark_used

NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
# Files that are synchronised each time should lie in memory, where there is such a folder.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
NONCE = bytes(range(32))
WORDS = ("laminator-nonce-v1\n", "nonce ", "issued ", "expires ", "card ", "2026-11-25T00:00:00Z")


def check(data: bytes) -> bool:
    """A nonce has 8 to 64 bytes wherever it came from; a store's entry is whole or refused."""
    with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
        file = Path(folder, "file.nonce")
        file.write_bytes(data)
        nonces = (_nonce(str(file)), _nonce(os.fsdecode(data)))
        store = Path(folder, "store")
        store.mkdir(mode=0o700)
        issued = _entry(store, data, None)
        used = _entry(store, _issued(), data)
    assert all(nonce is None or 8 <= len(nonce) <= 64 for nonce in nonces)
    assert all(entry is None or entry.nonce == NONCE for entry in (issued, used))
    assert used is None or used.use is not None
    return any(found is not None for found in (*nonces, issued, used))


def seeds() -> list[bytes]:
    """Return a nonce's file, a word, and the two entries of a used nonce."""
    with tempfile.TemporaryDirectory() as store:
        nonce = add_issued(store, NOW, NOW + dt.timedelta(days=1))
        mark_used(store, nonce, sha256(b"card"), NOW)
        files = [path.read_bytes() for path in sorted(Path(store).iterdir())]
    own = [data.replace(nonce.hex().encode(), NONCE.hex().encode()) for data in files]
    return [NONCE.hex().encode() + b"\n", b"00" * 8, *own]


def _nonce(word: str) -> bytes | None:
    return parsed(lambda _: parse_nonce(word), b"", UsageError)


def _entry(store: Path, issued: bytes, used: bytes | None) -> Entry | None:
    (store / f"{NONCE.hex()}.issued").write_bytes(issued)
    if used is not None:
        (store / f"{NONCE.hex()}.used").write_bytes(used)
    entry = parsed(lambda _: find(str(store), NONCE), issued, MachineError)
    if entry is not None:
        assert entry.seen_at(NOW)
    return entry


def _issued() -> bytes:
    lines = "issued 2026-11-25T00:00:00Z\nexpires 2026-11-26T00:00:00Z\n"
    return f"laminator-nonce-v1\nnonce {NONCE.hex()}\n{lines}".encode()


HARNESS = Harness(check, seeds, words=WORDS)
