"""Shuffled reading of Parquet shards through `laminator.data`, against the same reading without.

A loop as one DataLoader worker runs it: row groups in random order, decoded, stacked to one array,
its sum and spread taken. Once over the data, and three times: each chunk is hashed once a process.
Beside them, the peak memory of a process that measures 4 GiB, and of one that reads them in random
order with checks.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow.parquet as pq

from benchmarks.golden import ROOT
from benchmarks.spawned import spawn
from benchmarks.timing import Report, arguments, interleave, medians, paired_ratio, show
from laminator import data
from laminator.measure.tree import encode_leaves, measure_tree

MIB, LARGE_BYTES = 256, 4 << 30
MEMORY_TARGET = 200
MEASURE = "import sys; from laminator.measure.tree import measure_tree; measure_tree(sys.argv[1])"
READ = """
import random, sys
from laminator.data import Place, open_place
file = open_place(Place("large", *sys.argv[1:]))
places = list(range(0, file.size, 1 << 18))
random.Random(0).shuffle(places)
for place in places:
    file.pread(1 << 18, place)
"""


def measure(rounds: int) -> Report:
    """Read in turns, then measure and read a large sparse file."""
    with tempfile.TemporaryDirectory() as name:
        folder, leaves = Path(name, "shards"), Path(name, "leaves")
        make = [sys.executable, str(ROOT / "examples/make_stream.py"), str(folder)]
        subprocess.run([*make, f"--mib={MIB}"], check=True)
        place = _measured(folder, leaves)
        names = sorted(path.name for path in folder.iterdir())

        def plain(part: str) -> BinaryIO:
            return (folder / part).open("rb", buffering=0)

        def checked(part: str) -> BinaryIO:
            return cast("BinaryIO", cast("data.MeasuredFolder", data.open_place(place))[part])

        def fresh(epochs: int) -> None:
            data._files.cache_clear()  # noqa: SLF001 - a new worker has checked nothing
            _read(checked, names, epochs)

        seconds = interleave(
            {
                "plain, once": lambda: _read(plain, names, 1),
                "checked, once": lambda: fresh(1),
                "plain, three epochs": lambda: _read(plain, names, 3),
                "checked, three epochs": lambda: fresh(3),
            },
            rounds,
        )
        memory = _memory(Path(name))
    return Report(
        name="hash_stream",
        unit="s",
        rounds=rounds,
        medians=medians(seconds, "s"),
        results={
            "once": paired_ratio(seconds, "checked, once", "plain, once"),
            "three epochs": paired_ratio(seconds, "checked, three epochs", "plain, three epochs"),
            **memory,
        },
        targets={"once": 1.1, "three epochs": 1.1, **dict.fromkeys(memory, MEMORY_TARGET)},
    )


def _read(opened: Callable[[str], BinaryIO], names: list[str], epochs: int) -> None:
    files = {name: pq.ParquetFile(opened(name)) for name in names}
    groups = [(name, at) for name, file in files.items() for at in range(file.num_row_groups)]
    for epoch in range(epochs):
        random.Random(epoch).shuffle(groups)  # noqa: S311 - an order
        for name, at in groups:
            table = files[name].read_row_group(at, use_threads=False)
            rows = np.stack([column.to_numpy() for column in table.columns[:-1]], axis=1)
            rows.sum(axis=0)
            rows.std(axis=0)


def _measured(path: Path, leaves: Path) -> data.Place:
    found = measure_tree(path)
    leaves.write_bytes(b"".join(encode_leaves(found.files)))
    return data.Place(path.name, str(path), str(leaves), str(found.tree))


def _memory(folder: Path) -> dict[str, float]:
    """Return the peaks, in MiB, of measuring and of reading LARGE_BYTES."""
    large = folder / "large"
    large.touch()
    os.truncate(large, LARGE_BYTES)
    place = _measured(large, folder / "large.leaves")
    words = (place.path, place.leaves or "", place.tree or "")
    return {
        "measuring 4 GiB: peak MiB": spawn([sys.executable, MEASURE, str(large)]).memory,
        "reading 4 GiB: peak MiB": spawn([sys.executable, READ, *words]).memory,
    }


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=5)
    show(measure(options.rounds), as_json=options.json)
