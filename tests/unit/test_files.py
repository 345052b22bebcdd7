import hashlib
import os
import socket
import subprocess
import unicodedata
from pathlib import Path

import pytest

from laminator.cbor import encode
from laminator.digest import Digest
from laminator.errors import UsageError
from laminator.measure import files
from laminator.measure.files import (
    ManifestEntry,
    Measured,
    hash_descriptor,
    list_files,
    manifest_preimage,
    measure_descriptor,
    measure_path,
    open_beneath,
    open_source,
)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def folder_digest(content: dict[str, bytes]) -> Digest:
    """The definition, written again: sorted by UTF-8 bytes, domain, CBOR, SHA-256."""
    ordered = sorted(content.items(), key=lambda item: item[0].encode())
    manifest = encode([[path, len(data), sha(data)] for path, data in ordered])
    return Digest("sha-256", sha(b"laminator-manifest-v1\x00" + manifest))


def fill(folder: Path, content: dict[str, bytes]) -> None:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@pytest.mark.parametrize("size", [0, 1, 4095, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_a_file_has_the_digest_that_sha256sum_prints(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    printed = subprocess.check_output(["sha256sum", path], text=True).split()[0]
    assert measure_path(path) == Measured(Digest("sha-256", bytes.fromhex(printed)), size, 1)


def test_a_folder_has_the_digest_of_its_sorted_manifest(tmp_path: Path) -> None:
    content = {"b": b"2", "a/z": b"", "a-": b"x" * 5000, "é": b"e", "a/b/c": b"deep", "z.py": b"z"}
    fill(tmp_path, content)
    assert measure_path(tmp_path) == Measured(folder_digest(content), 5007, 6)


def test_a_folder_digest_does_not_depend_on_place_modes_or_empty_folders(tmp_path: Path) -> None:
    content = {"a": b"1", "b/c": b"2"}
    fill(tmp_path / "one", content)
    fill(tmp_path / "two", content)
    (tmp_path / "two" / "empty").mkdir()
    (tmp_path / "two" / "a").chmod(0o700)
    assert measure_path(tmp_path / "one") == measure_path(tmp_path / "two")


def test_a_folder_with_one_file_and_the_file_differ(tmp_path: Path) -> None:
    fill(tmp_path, {"a": b"1"})
    assert measure_path(tmp_path).digest != measure_path(tmp_path / "a").digest


def test_the_preimage_sorts_by_utf8_bytes() -> None:
    entries = [ManifestEntry(path, 0, bytes(32)) for path in ("\U00010000", "\uffff", "a")]
    paths = [part for part in manifest_preimage(entries).split(bytes(32)) if part]
    assert [b"\xf0" in part for part in paths[:3]] == [False, False, True]


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_every_number_of_threads_gives_the_same_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    content = {f"d{number % 7}/{number}": os.urandom(number * 10) for number in range(100)}
    fill(tmp_path, content)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert measure_path(tmp_path).digest == folder_digest(content)


def test_a_failure_in_one_thread_is_the_failure_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {str(number): b"x" for number in range(50)})
    root = open_source(tmp_path)
    found = list_files(root)
    (tmp_path / "25").unlink()
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    with pytest.raises(UsageError, match="cannot open '25'"):
        files.measure_files(root, found)
    os.close(root)


def test_a_link_inside_counts_as_its_file(tmp_path: Path) -> None:
    fill(tmp_path, {"blobs/1": b"weights", "snapshot/config": b"{}"})
    (tmp_path / "snapshot" / "model").symlink_to("../blobs/1")
    (tmp_path / "again").symlink_to("snapshot/model")
    expected = {"blobs/1": b"weights", "snapshot/config": b"{}"}
    expected |= {"snapshot/model": b"weights", "again": b"weights"}
    assert measure_path(tmp_path).digest == folder_digest(expected)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/etc/passwd", "leaves the folder"),
        ("../secret", "leaves the folder"),
        ("d/../../secret", "leaves the folder"),
        ("d", "something but a file"),
        (".", "leaves the folder"),
        ("missing", "no such file"),
        ("loop", "too many links"),
        ("outside/secret", "cannot open"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, target: str, reason: str) -> None:
    fill(tmp_path, {"secret": b"s", "folder/d/x": b"x"})
    if target == "outside/secret":
        (tmp_path / "folder" / "outside").symlink_to("..")
    (tmp_path / "folder" / "loop").symlink_to(target)
    with pytest.raises(UsageError, match=f"{reason}|leaves the folder") as caught:
        measure_path(tmp_path / "folder")
    assert caught.value.code in ("files.link", "files.open")


def test_a_link_given_as_the_path_itself_is_followed(tmp_path: Path) -> None:
    fill(tmp_path, {"real/a": b"1"})
    (tmp_path / "link").symlink_to("real")
    assert measure_path(tmp_path / "link") == measure_path(tmp_path / "real")
    with pytest.raises(UsageError, match="cannot open"):
        open_source(tmp_path / "link", follow=False)


def test_pipes_sockets_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(UsageError, match="neither file nor folder"):
            measure_path(path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(UsageError, match="neither file nor folder"):
            measure_path(tmp_path)


def test_names_equal_after_normalisation_are_refused(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "é")).write_bytes(b"")
    with pytest.raises(UsageError, match="equal after NFC"):
        measure_path(tmp_path)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"")
    with pytest.raises(UsageError, match="not UTF-8"):
        measure_path(tmp_path)


def test_too_many_files_and_too_deep_folders_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a": b"", "b": b"", "c/d/e": b""})
    monkeypatch.setattr(files, "MAX_FILES", 2)
    with pytest.raises(UsageError, match="more than 2 files"):
        measure_path(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(files, "MAX_DEPTH", 1)
    with pytest.raises(UsageError, match="nested deeper"):
        measure_path(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot open .*absent.: no such file"):
        measure_path(tmp_path / "absent")


@pytest.mark.parametrize("path", ["../x", "a/../x", "", "/etc/passwd", "./a", "a//b"])
def test_only_plain_relative_paths_open_beneath(tmp_path: Path, path: str) -> None:
    root = open_source(tmp_path)
    with pytest.raises(UsageError, match="not a plain relative path"):
        open_beneath(root, path)
    os.close(root)


def test_a_folder_swapped_for_a_link_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"in/d/x": b"1", "out/x": b"secret"})
    root = open_source(tmp_path / "in")
    found = list_files(root)
    (tmp_path / "in" / "d").rename(tmp_path / "in" / "old")
    (tmp_path / "in" / "d").symlink_to("../out")
    with pytest.raises(UsageError, match="cannot open 'd/x'"):
        files.measure_files(root, found)
    os.close(root)


def test_the_sink_gets_each_byte_once(tmp_path: Path) -> None:
    content = {"big": os.urandom((5 << 20) + 17), "small": b"abc", "none": b""}
    fill(tmp_path, content)
    got: dict[str, bytes] = {}

    def sink(path: str, _status: os.stat_result) -> tuple[files.Write, files.Finish]:
        parts: list[bytes] = []
        return lambda chunk: parts.append(bytes(chunk)), lambda: got.update({path: b"".join(parts)})

    root = open_source(tmp_path)
    assert measure_descriptor(root, sink).digest == folder_digest(content)
    os.close(root)
    assert got == content


def test_a_growing_file_is_measured_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 10)
    descriptor = open_source(path)
    with path.open("ab") as file:
        file.write(b"b" * 10)
    assert hash_descriptor(descriptor) == (20, sha(b"a" * 10 + b"b" * 10))
    os.close(descriptor)


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    fill(tmp_path, {"a/b/c": b"1", "a/d": b"2"})
    (tmp_path / "l").symlink_to("a/d")
    before = open_descriptors()
    measure_path(tmp_path)
    (tmp_path / "bad").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="leaves"):
        measure_path(tmp_path)
    assert open_descriptors() == before
