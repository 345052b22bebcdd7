"""Reading measured chunks: the bytes that a plain file has, each chunk checked once a process."""

import gc
import hashlib
import io
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_place import checked_and_hashed, placed

from laminator import data as reading
from laminator import workload
from laminator.data import DataChangedError, MeasuredFile, MeasuredFolder, Place, open_place
from laminator.measure.tree import LEAF_BYTES, leaf_digest

SIZE = 3 * LEAF_BYTES + 4321
CONTENT = hashlib.shake_256(b"content").digest(SIZE)
BORDERS = [0, 1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 3 * LEAF_BYTES, SIZE - 1, SIZE]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("data")
    (folder / "file").write_bytes(CONTENT)
    return placed(folder / "file", folder / "leaves")


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Let no test inherit what another checked."""
    reading._files.cache_clear()


def opened(place: Place) -> MeasuredFile:
    file = open_place(place)
    assert isinstance(file, MeasuredFile)
    return file


@settings(max_examples=150)
@given(
    offset=st.sampled_from(BORDERS) | st.integers(0, SIZE + 10),
    size=st.sampled_from(BORDERS) | st.integers(0, SIZE + 10),
    fresh=st.booleans(),
)
def test_reads_of_any_place_and_length(
    place: Place, offset: int, size: int, *, fresh: bool
) -> None:
    if fresh:
        reading._files.cache_clear()
    expected = CONTENT[offset : offset + size]
    with opened(place) as file:
        assert file.pread(size, offset) == expected
        buffer = bytearray(b"\xaa" * size)
        assert file.pread_into(buffer, offset) == len(expected)
        assert buffer == expected + b"\xaa" * (size - len(expected))
        inside = min(offset, SIZE)
        assert file.view(inside, min(size, SIZE - inside)) == CONTENT[inside : inside + size]


def test_it_is_a_file_object(place: Place) -> None:
    with opened(place) as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert (file.size, file.name, file.read(3)) == (SIZE, place.path, CONTENT[:3])
        assert file.seek(-5, os.SEEK_END) == SIZE - 5
        assert (file.readall(), file.read(), file.tell()) == (CONTENT[-5:], b"", SIZE)
        assert file.seek(10) == 10
        assert (file.seek(5, os.SEEK_CUR), file.read(None)) == (15, CONTENT[15:])
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-1)
        file.seek(0)
        assert io.BufferedReader(file).read() == CONTENT
    with pytest.raises(ValueError, match="closed"):
        file.pread(1, 0)
    file.close()


def test_a_view_stays_when_the_file_is_closed(place: Place) -> None:
    file = opened(place)
    view = file.view(7, LEAF_BYTES)
    for offset, size in ((-1, 2), (0, SIZE + 1), (SIZE + 1, 0), (5, -1)):
        with pytest.raises(ValueError, match="bytes"):
            file.view(offset, size)
    file.close()
    assert np.array_equal(np.frombuffer(view, np.uint8)[:3], list(CONTENT[7:10]))
    assert view.readonly


def test_empty_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with opened(placed(tmp_path / "empty", tmp_path / "leaves")) as file:
        assert (file.read(), bytes(file.view(0, 0)), file.size) == (b"", b"", 0)
    (tmp_path / "folder").mkdir()
    folder = open_place(placed(tmp_path / "folder", tmp_path / "none"))
    assert isinstance(folder, MeasuredFolder)
    assert (list(folder), len(folder)) == ([], 0)


def test_a_folder_of_shards(tmp_path: Path) -> None:
    content = {"é/1": CONTENT, "a-": b"2", "a/z": b"3"}
    for path, data in content.items():
        (tmp_path / "shards" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shards" / path).write_bytes(data)
    folder = open_place(placed(tmp_path / "shards", tmp_path / "leaves"))
    assert isinstance(folder, MeasuredFolder)
    assert list(folder) == sorted(content, key=str.encode)
    assert {path: file.read() for path, file in folder.items()} == content
    with pytest.raises(KeyError):
        folder["missing"]
    assert pickle.loads(pickle.dumps(folder))["a/z"].read() == b"3"  # noqa: S301 - ours


def test_each_chunk_is_hashed_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counting(*pieces: Any) -> bytes:
        hashed.append(sum(map(len, pieces)))
        return digest(*pieces)

    digest = leaf_digest
    monkeypatch.setattr(reading, "leaf_digest", counting)
    for file in (opened(place), opened(place)):
        for at in range(0, SIZE, 400_000):
            file.pread(400_000, at)
        file.view(0, SIZE)
        file.read()
        file.close()
    assert sorted(hashed) == sorted([LEAF_BYTES] * 3 + [4321])


def test_threads_share_a_file(place: Place) -> None:
    with opened(place) as file, ThreadPoolExecutor(8) as pool:
        offsets = [(at * 7919 * 131) % SIZE for at in range(400)]
        pieces = pool.map(lambda at: file.pread(3000, at), offsets)
        assert list(pieces) == [CONTENT[at : at + 3000] for at in offsets]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process")
def test_other_processes_check_for_themselves(place: Place, method: str) -> None:
    with opened(place) as file:
        file.read()
        with ProcessPoolExecutor(1, get_context(method)) as pool:
            answers = list(pool.map(checked_and_hashed, [file, file]))
    content = hashlib.sha256(CONTENT).hexdigest()
    assert answers == [(0, content), (4, content)]


def test_a_fork_uses_no_descriptor_of_its_parent(place: Place) -> None:
    file = opened(place)
    file.pread(1, 0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        first = file.pread(4, 0) == CONTENT[:4]
        own = file._opened is not None and file._opened.process == os.getpid()
        checked = sum(reading._files(place, os.getpid())[""].checked)
        os.write(writer, f"{first} {own} {checked}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"True True 1"
    os.close(reader)
    assert file.pread(4, 0) == CONTENT[:4]


def test_parquet_and_arrow_read_it(tmp_path: Path) -> None:
    table = pa.table({"x": np.arange(300_000), "y": np.arange(300_000) % 7})
    (tmp_path / "shards").mkdir()
    pq.write_table(table, tmp_path / "shards/0.parquet", row_group_size=50_000)
    with pa.ipc.new_file(tmp_path / "shards/1.arrow", table.schema) as writer:
        writer.write_table(table)
    folder = open_place(placed(tmp_path / "shards", tmp_path / "leaves"))
    assert isinstance(folder, MeasuredFolder)
    parquet = pq.ParquetFile(folder["0.parquet"])
    assert parquet.read_row_group(3).equals(table.slice(150_000, 50_000))
    assert parquet.read().equals(table)
    assert pa.ipc.open_file(folder["1.arrow"]).read_all().equals(table)
    file = folder["1.arrow"]
    assert pa.ipc.open_file(pa.py_buffer(file.view(0, file.size))).read_all().equals(table)


def test_a_private_copy_is_read_without_leaves(tmp_path: Path) -> None:
    (tmp_path / "copy/deep").mkdir(parents=True)
    (tmp_path / "copy/deep/b").write_bytes(CONTENT)
    (tmp_path / "copy/a").write_bytes(b"1")
    folder = open_place(Place("train", str(tmp_path / "copy")))
    assert isinstance(folder, MeasuredFolder)
    assert list(folder) == ["a", "deep/b"]
    assert folder["deep/b"].pread(10, LEAF_BYTES) == CONTENT[LEAF_BYTES : LEAF_BYTES + 10]
    assert opened(Place("train", str(tmp_path / "copy/a"))).read() == b"1"


def test_measured_asks_the_attester(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "input", {"train": place.path}.__getitem__)
    monkeypatch.setattr(workload, "leaves", {"train": (place.leaves, place.tree)}.__getitem__)
    assert reading.measured("train").__reduce__() == (MeasuredFile, (place, ""))


def test_what_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12")
    place = placed(tmp_path / "file", tmp_path / "leaves")
    (tmp_path / "file").write_bytes(b"123")
    with pytest.raises(DataChangedError):
        open_place(place)
    gc.collect()


def test_reading_needs_no_heavy_import() -> None:
    code = "import sys, laminator.data; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"numpy", "torch", "pyarrow"}.isdisjoint(ran.stdout.split())
