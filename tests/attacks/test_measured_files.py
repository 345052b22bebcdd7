"""Files and folders made to be measured as something else: collisions, links, devices, names."""

import ctypes
import hashlib
import os
import stat
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from odd_files import device, fifo, nowhere, unix_socket

from laminator.appraise.artifacts import measure_artifact
from laminator.cli.main import main
from laminator.digest import Digest
from laminator.errors import UsageError
from laminator.measure import files
from laminator.measure.files import (
    MANIFEST_DOMAIN,
    ManifestEntry,
    manifest_preimage,
    measure_path,
)
from laminator.run.private_copy import copy_measured, store


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        act()
    return caught.value.code


# One digest for a folder and a file.


def twins(place: Path) -> tuple[Path, Path]:
    """Make a folder of one file, and a file of the same size that is its manifest's preimage."""
    folder, file = place / "folder", place / "file"
    folder.mkdir()
    size = len(manifest_preimage([ManifestEntry("weights", 70, bytes(32))]))
    content = b"w" * size
    (folder / "weights").write_bytes(content)
    entry = ManifestEntry("weights", size, hashlib.sha256(content).digest())
    file.write_bytes(manifest_preimage([entry]))
    return folder, file


def test_a_file_that_is_a_folders_manifest(tmp_path: Path) -> None:
    """Digest, size and number of files would be the folder's: it gets none at all."""
    folder, file = twins(tmp_path)
    measured = measure_path(folder)
    plain = Digest("sha-256", hashlib.sha256(file.read_bytes()).digest())
    assert measured == (plain, file.stat().st_size, 1)
    assert refusal(lambda: measure_path(file)) == "files.manifest"
    assert refusal(lambda: measure_artifact(str(file))) == "files.manifest"
    assert refusal(lambda: copy_measured(file, tmp_path / "copy")) == "files.manifest"
    assert refusal(lambda: store(tmp_path, "file", tmp_path / "stored")) == "files.manifest"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("more", [b"", b"\x80", b"\xff" * 100, bytes(9 << 20)])
def test_every_file_that_begins_like_a_manifest(tmp_path: Path, more: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(MANIFEST_DOMAIN + more)
    assert refusal(lambda: measure_path(path)) == "files.manifest"


@pytest.mark.parametrize("content", [MANIFEST_DOMAIN[:-1], b" " + MANIFEST_DOMAIN, b""])
def test_a_file_that_does_not_quite(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert measure_path(path).digest.value == hashlib.sha256(content).digest()


def test_inside_a_folder_such_a_file_is_one_like_the_others(tmp_path: Path) -> None:
    folder, file = twins(tmp_path)
    outer = tmp_path / "outer"
    (outer / "sub").mkdir(parents=True)
    file.rename(outer / "sub" / "file")
    nested = measure_path(outer)
    assert nested.files == 1
    (outer / "sub" / "file").unlink()
    (outer / "sub").rmdir()
    folder.rename(outer / "sub")
    assert measure_path(outer) != nested


def test_a_manifest_has_one_reading() -> None:
    """Names with separators, sizes and digests in them make no other folder's preimage."""
    one = [ManifestEntry("a", 1, bytes(32)), ManifestEntry("b", 2, bytes(32))]
    joined = [ManifestEntry("a\x01" + "\0" * 32 + "b", 2, bytes(32))]
    deep = [ManifestEntry("a/b", 2, bytes(32))]
    assert len({manifest_preimage(entries) for entries in (one, joined, deep)}) == 3


# What is neither file nor folder.


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def outside(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def above(path: Path) -> None:
    path.symlink_to("../" * 40 + "etc/hostname")


def folder_link(path: Path) -> None:
    (path.parent / "real").mkdir()
    path.symlink_to("real")


@pytest.mark.parametrize("make", [fifo, unix_socket, device])
def test_an_input_that_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "input"
    make(path)
    assert not stat.S_ISREG(path.stat().st_mode)
    assert refusal(lambda: measure_path(path)) in ("files.kind", "files.open")
    assert refusal(lambda: copy_measured(path, tmp_path / "copy")) in ("files.kind", "files.open")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "make", [fifo, unix_socket, device, loop, nowhere, outside, above, folder_link]
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_folder_that_holds_one(tmp_path: Path, make: Callable[[Path], None], deep: bool) -> None:
    folder = tmp_path / "input"
    (folder / "deep").mkdir(parents=True)
    (folder / "honest").write_text("x")
    measure_path(folder)
    make((folder / "deep" if deep else folder) / "odd")
    codes = {"files.kind", "files.link", "files.open"}
    assert refusal(lambda: measure_path(folder)) in codes
    assert refusal(lambda: copy_measured(folder, tmp_path / "copy")) in codes
    assert not (tmp_path / "copy").exists()


def test_a_device_node_in_a_folder(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this user may make no device")
    assert refusal(lambda: measure_path(tmp_path)) == "files.kind"


def test_a_hard_link_is_the_file_that_it_is(tmp_path: Path) -> None:
    """Its other name, outside, may change it afterwards: the copy is of the measured bytes."""
    folder = tmp_path / "input"
    folder.mkdir()
    (tmp_path / "outside").write_text("measured")
    os.link(tmp_path / "outside", folder / "inside")
    copy = copy_measured(folder, tmp_path / "copy")
    (tmp_path / "outside").write_text("swapped!")
    assert (folder / "inside").read_text() == "swapped!"
    assert (copy.path / "inside").read_text() == "measured"
    assert measure_path(copy.path) == copy.measured
    assert (copy.path / "inside").stat().st_nlink == 1


# Swapped between the list and the reading.


def swapped(make: Callable[[Path], None], path: Path) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize("make", [fifo, unix_socket, device, loop, nowhere, outside])
def test_a_file_swapped_during_the_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "file").write_text("x")
    listed = files.list_files

    def then_swap(root: int) -> tuple[files.Found, ...]:
        found = listed(root)
        swapped(make, folder / "file")
        return found

    monkeypatch.setattr(files, "list_files", then_swap)
    assert refusal(lambda: measure_path(folder)) in {"files.kind", "files.open"}


def test_a_folder_swapped_while_it_is_measured(tmp_path: Path) -> None:
    """A racing provider: a measurement is refused, or it is of what lay in the folder."""
    folder, elsewhere = tmp_path / "input", tmp_path / "elsewhere"
    for place, content in ((folder / "sub", "inside"), (elsewhere, "outside")):
        place.mkdir(parents=True)
        (place / "file").write_text(content)
    (tmp_path / "link").symlink_to(elsewhere)
    names = [os.fsencode(folder / "sub"), os.fsencode(tmp_path / "link")]
    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    ending = threading.Event()

    def race() -> None:
        while not ending.is_set():
            exchange(-100, names[0], -100, names[1], 2)

    racer = threading.Thread(target=race)
    racer.start()
    outcomes = {"refused": 0, "inside": 0, "outside": 0}
    try:
        for number in range(200):
            copy = tmp_path / f"copy-{number}"
            try:
                copy_measured(folder, copy)
                outcomes[(copy / "sub" / "file").read_text()] += 1
            except UsageError:
                outcomes["refused"] += 1
    finally:
        ending.set()
        racer.join()
    assert outcomes["outside"] == 0
    assert outcomes["refused"] + outcomes["inside"] == 200


# Names.

ODD_NAMES = [
    *("new\nline", "car\rriage", "esc\x1b[2J", "tab\t", "bell\x07", " ", "..."),
    *("..hidden", "-rf", "a=b", "quote'\"", "back\\slash", "*", "$(id)", "%s"),
    *("bidi\u202egnp.exe", "zero\u200bwidth", "n" * 255, "\u00e9" * 127, "\U0001f600"),
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_recorded_as_it_is(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "input"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / name).write_text("x")
    digest = hashlib.sha256(b"x").digest()
    expected = files.measure_manifest([ManifestEntry(f"sub/{name}", 1, digest)])
    assert measure_path(folder) == expected
    copy = copy_measured(folder, tmp_path / "copy")
    assert os.listdir(copy.path / "sub") == [name]  # noqa: PTH208 - the name as it is
    assert measure_path(folder / "sub" / name).digest.value == digest


@pytest.mark.parametrize("name", [b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\xaf", b"a\xffb"])
def test_a_name_that_is_no_text(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb"):  # noqa: PTH123 - bytes
        pass
    assert refusal(lambda: measure_path(tmp_path)) == "files.name"


@pytest.mark.parametrize("text", ["\u00e9", "\u1e69", "\ud55c", "\u212b", "\ufb2a"])
def test_two_spellings_of_one_name(tmp_path: Path, text: str) -> None:
    spellings = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")} | {text}
    assert len(spellings) > 1
    for spelling in spellings:
        (tmp_path / spelling).write_text("x")
    assert len(list(tmp_path.iterdir())) > 1
    assert refusal(lambda: measure_path(tmp_path)) == "files.duplicate"


def test_names_that_differ_by_case_are_two(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "A").write_text("two")
    assert measure_path(tmp_path).files == 2


# Names on the terminal.


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if not name.isascii() or "\n" in name])
@pytest.mark.parametrize("verb", [("show",), ("verify", "--trust", "."), ("policy", "explain")])
def test_no_verb_prints_a_file_s_name_raw(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: tuple[str, ...],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("neither a card nor a policy")
    assert main([*verb, name]) in (1, 2)
    printed = "".join(capsys.readouterr())
    hidden = [char for char in name if unicodedata.category(char) in ("Cc", "Cf")]
    assert hidden or name in printed or ascii(name)[1:60] in printed or "..." in printed
    for char in hidden:
        if char != "\n":
            assert char not in printed
    if "\n" in name:
        assert not any(line.startswith("line") for line in printed.splitlines())
