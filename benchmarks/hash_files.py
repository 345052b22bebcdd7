"""Measuring files against their peers: openssl on one file, one thread on several, file_digest.

One thread on one file is held against `openssl dgst -sha256`; two threads on four files against
one; 10,000 files of 100 KiB against `hashlib.file_digest` on one thread. Ratios are speeds: how
many times as fast as the peer, more is better, so the targets here are lower bounds. The tree is
measured beside them: it hashes every byte twice, in two threads where one file is large.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

from benchmarks.spawned import MEBIBYTE, fill
from benchmarks.timing import Report, arguments, interleave, medians, paired_ratio, show
from laminator.measure.files import measure_path
from laminator.measure.tree import measure_tree

SMALL_FILES, SMALL_BYTES = 10_000, 100 * 1024
OPENSSL, OWN, TREE = "openssl, one file", "one file", "one file, with tree"
ONE, TWO = "four files, one thread", "four files, all threads"
PEER, SMALL = "small files, file_digest", "small files"
SMALL_TREE = "small files, with tree"


def measure(rounds: int, size: int) -> Report:
    """Measure a file of `size` bytes, four of them and many small ones, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, four, small = folder / "one", folder / "four", folder / "small"
        fill(str(one), size)
        four.mkdir()
        for number in range(4):
            fill(str(four / str(number)), size // 2, number)
        _fill_small(small)
        seconds = interleave(
            {
                OPENSSL: lambda: _openssl(one),
                OWN: lambda: measure_path(one),
                TREE: lambda: measure_tree(one),
                ONE: lambda: _on_one_thread(four),
                TWO: lambda: measure_path(four),
                PEER: lambda: _file_digests(small),
                SMALL: lambda: measure_path(small),
                SMALL_TREE: lambda: measure_tree(small),
            },
            rounds,
        )
    return Report(
        name="hash_files",
        unit="s",
        rounds=rounds,
        medians=medians(seconds, "s"),
        results={
            "one file, speed of openssl (at least 0.9)": paired_ratio(seconds, OPENSSL, OWN),
            "one file with tree, speed of openssl": paired_ratio(seconds, OPENSSL, TREE),
            "all threads, speed of one (at least 1.8)": paired_ratio(seconds, ONE, TWO),
            "small files, speed of file_digest (at least 1.8)": paired_ratio(seconds, PEER, SMALL),
            "small files with tree, speed of file_digest": paired_ratio(seconds, PEER, SMALL_TREE),
        },
        targets={},
    )


def _fill_small(folder: Path) -> None:
    block = bytearray(os.urandom(SMALL_BYTES))
    for number in range(SMALL_FILES):
        block[:8] = number.to_bytes(8, "big")
        path = folder / str(number // 1000) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(block)


def _openssl(path: Path) -> None:
    subprocess.run(["openssl", "dgst", "-sha256", path], check=True, stdout=subprocess.DEVNULL)


def _on_one_thread(folder: Path) -> None:
    with mock.patch("os.cpu_count", return_value=1):
        measure_path(folder)


def _file_digests(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=7)
    show(measure(options.rounds, 512 * MEBIBYTE), as_json=options.json)
