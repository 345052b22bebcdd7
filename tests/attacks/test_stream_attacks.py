"""Data that is read in place, and a host that has it say something else after the attester's pass.

Each attack changes one thing; the reader refuses the bytes, and goes on refusing them.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from in_place import placed

from laminator import data as reading
from laminator.data import DataChangedError, MeasuredFile, MeasuredFolder, Place, open_place
from laminator.measure.tree import (
    DIGEST_BYTES,
    LEAF_BYTES,
    encode_leaves,
    measure_tree,
    parse_leaves,
    tree_digest,
)

ONE = hashlib.shake_256(b"one").digest(2 * LEAF_BYTES + 4)
TWO = hashlib.shake_256(b"two").digest(len(ONE))
EVIL = LEAF_BYTES + 17


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/one").write_bytes(ONE)
    (tmp_path / "data/two").write_bytes(TWO)
    return placed(tmp_path / "data", tmp_path / "leaves")


def folder(place: Place) -> MeasuredFolder:
    found = open_place(place)
    assert isinstance(found, MeasuredFolder)
    return found


def change(path: Path, at: int = EVIL) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 1]))


def whole(file: MeasuredFile) -> object:
    return file.read()


def part(file: MeasuredFile) -> object:
    return file.pread(3, EVIL - 1)


def beside(file: MeasuredFile) -> object:
    return file.pread(3, LEAF_BYTES)


def into(file: MeasuredFile) -> object:
    buffer = bytearray(b"\xaa" * 100)
    try:
        return file.pread_into(buffer, EVIL)
    finally:
        assert buffer == bytes(100)


def mapped(file: MeasuredFile) -> object:
    return file.view(EVIL, 1)


READS = [whole, part, beside, into, mapped]


@pytest.mark.parametrize("read", READS)
def test_a_chunk_changed_after_the_attesters_pass(
    place: Place, tmp_path: Path, read: Callable[[MeasuredFile], object]
) -> None:
    file = folder(place)["one"]
    assert file.pread(10, 0) == ONE[:10]
    change(tmp_path / "data/one")
    with pytest.raises(DataChangedError) as caught:
        read(file)
    assert caught.value.code == "data.changed"
    assert "chunk 1 of" in caught.value.message


@pytest.mark.parametrize("read", [*READS, lambda file: file.pread(1, 0)])
def test_who_swallows_the_error_gets_no_byte_of_that_file_any_more(
    place: Place, tmp_path: Path, read: Callable[[MeasuredFile], object]
) -> None:
    change(tmp_path / "data/one")
    file = folder(place)["one"]
    with pytest.raises(DataChangedError):
        file.pread(1, EVIL)
    change(tmp_path / "data/one")  # as it was
    for again in (file, folder(place)["one"]):
        with pytest.raises(DataChangedError):
            read(again)
    assert folder(place)["two"].read() == TWO


@pytest.mark.parametrize("read", [whole, into])
def test_a_file_that_shrinks_after_it_was_opened(
    place: Place, tmp_path: Path, read: Callable[[MeasuredFile], object]
) -> None:
    file = folder(place)["one"]
    os.truncate(tmp_path / "data/one", LEAF_BYTES + 5)
    with pytest.raises(DataChangedError):
        read(file)


@pytest.mark.parametrize("size", [0, LEAF_BYTES, len(ONE) - 1, len(ONE) + 1, 3 * LEAF_BYTES])
def test_a_file_cut_or_grown_before_it_is_opened(place: Place, tmp_path: Path, size: int) -> None:
    os.truncate(tmp_path / "data/one", size)
    with pytest.raises(DataChangedError, match="bytes"):
        folder(place)["one"]


def test_a_file_of_another_name(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data/one").rename(tmp_path / "x")
    (tmp_path / "data/two").rename(tmp_path / "data/one")
    (tmp_path / "x").rename(tmp_path / "data/two")
    for name in ("one", "two"):
        with pytest.raises(DataChangedError):
            folder(place)[name].pread(1, 0)


def test_a_pipe_in_the_place_of_a_file(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data/one").unlink()
    os.mkfifo(tmp_path / "data/one")
    with pytest.raises(DataChangedError):
        folder(place)["one"]


def test_a_file_that_was_not_there_is_not_in_the_folder(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data/three").write_bytes(b"3")
    assert list(folder(place)) == ["one", "two"]
    with pytest.raises(KeyError):
        folder(place)["three"]


def test_a_link_out_of_the_folder_shows_no_other_bytes(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(TWO)
    (tmp_path / "data/one").unlink()
    (tmp_path / "data/one").symlink_to(tmp_path / "other")
    with pytest.raises(DataChangedError):
        folder(place)["one"].read()


def _edit(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_the_file_of_leaves_edited(place: Place, tmp_path: Path) -> None:
    content = (tmp_path / "leaves").read_bytes()
    for at in (0, 20, len(content) // 2, len(content) - 1):
        (tmp_path / "leaves").write_bytes(_edit(content, at))
        with pytest.raises(DataChangedError) as caught:
            open_place(place)
        assert caught.value.code == "data.leaves"


def test_leaves_made_again_for_the_changed_data(place: Place, tmp_path: Path) -> None:
    change(tmp_path / "data/one")
    found = measure_tree(tmp_path / "data")
    (tmp_path / "leaves").write_bytes(b"".join(encode_leaves(found.files)))
    with pytest.raises(DataChangedError) as caught:
        open_place(place)
    assert caught.value.code == "data.leaves"


def test_a_leaf_of_another_file_or_place(place: Place, tmp_path: Path) -> None:
    one, two = parse_leaves((tmp_path / "leaves").read_bytes())
    first, second = bytes(one.leaves[:DIGEST_BYTES]), bytes(two.leaves[:DIGEST_BYTES])
    rest = bytes(one.leaves[DIGEST_BYTES:])
    for forged in (
        (one._replace(leaves=second + rest), two),
        (one._replace(leaves=bytes(two.leaves)), two._replace(leaves=bytes(one.leaves))),
        (one._replace(path="two"), two._replace(path="tw")),
        (one._replace(leaves=rest[:DIGEST_BYTES] + first + rest[DIGEST_BYTES:]), two),
    ):
        assert str(tree_digest(forged)) != place.tree


def test_a_worker_that_reads_later_checks_what_its_parent_had_checked(
    place: Place, tmp_path: Path
) -> None:
    file = folder(place)["one"]
    assert file.read() == ONE
    change(tmp_path / "data/one")
    assert file.pread(1, EVIL) != ONE[EVIL : EVIL + 1]  # known: read again, not compared again
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            file.pread(1, EVIL)
        except DataChangedError:
            os.write(writer, b"refused")
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)


def test_without_its_check_a_reader_would_be_deceived(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(tmp_path / "data/one")
    monkeypatch.setattr(reading._File, "check", lambda *_: None)
    assert folder(place)["one"].read() != ONE
