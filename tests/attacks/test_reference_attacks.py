"""What a lying wheel, lock or .deb tries: each has one lie and is refused by the check for it."""

import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import packages
import pytest
from packages import FILES, INFO, lock_of, member, record_of, wheel_bytes, write_wheel

from laminator.errors import MalformedError
from laminator.references.debs import read_deb
from laminator.references.wheels import read_wheel


def _code(folder: Path, content: bytes, filename: str = packages.FILENAME) -> str:
    with pytest.raises(MalformedError) as refused:
        read_wheel(str(write_wheel(folder, content, filename)), lock_of(content))
    assert filename in refused.value.message
    return refused.value.code


def _adding(name: str, content: bytes = b"x", listed: str | None = None) -> bytes:
    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr(name, content)

    return wheel_bytes(record=record_of({**FILES, listed or name: content}), write=write)


def test_a_tampered_wheel(tmp_path: Path) -> None:
    honest = wheel_bytes()
    tampered = wheel_bytes({**FILES, "demo_pkg/__init__.py": b"VALUE = 2\n"})
    with pytest.raises(MalformedError) as refused:
        read_wheel(str(write_wheel(tmp_path, tampered)), lock_of(honest))
    assert refused.value.code == "lock.hash"


def test_a_wheel_that_the_lock_does_not_name(tmp_path: Path) -> None:
    content = wheel_bytes()
    for lock in (lock_of(content, name="other"), lock_of(content, version="1.3")):
        with pytest.raises(MalformedError) as refused:
            read_wheel(str(write_wheel(tmp_path, content)), lock)
        assert refused.value.code == "lock.unnamed"


RECORD_LIES = {
    "a file that RECORD does not name": (
        record_of({k: v for k, v in FILES.items() if "data" not in k}),
        "record.missing",
    ),
    "a file that is not there": (record_of({**FILES, "demo_pkg/more.py": b""}), "record.extra"),
    "the hash of other bytes": (
        record_of({**FILES, "demo_pkg/data.bin": bytes(5120)}),
        "record.hash",
    ),
    "another size": (record_of({**FILES, "demo_pkg/data.bin": b""}), "record.size"),
    "no hash": (
        record_of(FILES).replace(b"=", b"=", 1).replace(b",sha256=", b",md5=", 1),
        "record.hash",
    ),
    "an empty hash": (
        record_of({k: v for k, v in FILES.items() if "init" not in k})
        + b"demo_pkg/__init__.py,,\n",
        "record.hash",
    ),
    "a file twice": (record_of(FILES) + record_of(FILES), "record.duplicate"),
    "no rows of three": (b"a,b\n", "record.syntax"),
    "no UTF-8": (b"\xff,,\n", "record.syntax"),
    "no base64": (b"a,sha256=!,1\n", "record.hash"),
    "a short hash": (b"a,sha256=AAAA,1\n", "record.hash"),
    "no number": (b"a,,-1\n", "record.size"),
}


@pytest.mark.parametrize("lie", RECORD_LIES)
def test_a_record_that_lies(lie: str, tmp_path: Path) -> None:
    record, code = RECORD_LIES[lie]
    assert _code(tmp_path, wheel_bytes(record=record)) == code


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x.py",
        "a/../../x.py",
        "a//b.py",
        "./x.py",
        "a\\b.py",
        "a\x01.py",
        "a\n.py",
    ],
)
def test_a_name_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    assert _code(tmp_path, _adding(name)) == "files.name"


def test_a_name_that_ends_early(tmp_path: Path) -> None:
    content = _adding("demo_pkg/evil.pyX.txt").replace(b"evil.pyX.txt", b"evil.py\x00.txt")
    assert _code(tmp_path, content) == "files.name"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path) -> None:
    assert _code(tmp_path, _adding("demo_pkg/__init__.py", b"evil = 1\n")) == "files.duplicate"


def test_two_names_that_a_file_system_joins(tmp_path: Path) -> None:
    files = {**FILES, "demo_pkg/\u00e9.py": b"", "demo_pkg/e\u0301.py": b"evil"}
    assert _code(tmp_path, wheel_bytes(files)) == "files.duplicate"


def test_a_file_that_is_a_folder_too(tmp_path: Path) -> None:
    files = {**FILES, "demo_pkg/a": b"", "demo_pkg/a/b.py": b""}
    assert _code(tmp_path, wheel_bytes(files)) == "files.duplicate"


def test_two_members_that_are_installed_over_each_other(tmp_path: Path) -> None:
    over = f"{packages.NAME}-{packages.VERSION}.data/purelib/demo_pkg/__init__.py"
    assert _code(tmp_path, wheel_bytes({**FILES, over: b"evil"})) == "files.duplicate"


def test_data_of_another_wheel_or_without_a_place(tmp_path: Path) -> None:
    own = f"{packages.NAME}-{packages.VERSION}.data"
    for name in ("other-1.data/purelib/x.py", f"{own}/elsewhere/x.py", f"{own}/purelib"):
        assert _code(tmp_path, wheel_bytes({**FILES, name: b""})) == "wheel.data"


def test_a_link(tmp_path: Path) -> None:
    def write(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("demo_pkg/link.py")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, b"/etc/passwd")

    record = record_of({**FILES, "demo_pkg/link.py": b"/etc/passwd"})
    assert _code(tmp_path, wheel_bytes(record=record, write=write)) == "zip.kind"


def test_a_member_that_grows(tmp_path: Path) -> None:
    """The directory states 10 bytes where the stream has 1 MB."""
    bomb = b"\0" * 1_000_000

    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr("demo_pkg/bomb.py", bomb)
        archive.getinfo("demo_pkg/bomb.py").file_size = 10

    record = record_of({**FILES, "demo_pkg/bomb.py": b"\0" * 10})
    assert _code(tmp_path, wheel_bytes(record=record, write=write)) == "zip.data"


def test_a_member_larger_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laminator.references.zip_members.MAX_MEMBER", 5000)
    assert _code(tmp_path, wheel_bytes()) == "zip.size"


def test_more_bytes_together_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laminator.references.zip_members.MAX_TOTAL", 5000)
    assert _code(tmp_path, wheel_bytes()) == "zip.size"


def test_metadata_larger_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laminator.references.wheels.MAX_METADATA", 5)
    assert _code(tmp_path, wheel_bytes()) == "zip.size"


def test_a_packing_that_readers_may_lack(tmp_path: Path) -> None:
    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr("demo_pkg/x.py", b"x" * 99, zipfile.ZIP_BZIP2)

    record = record_of({**FILES, "demo_pkg/x.py": b"x" * 99})
    assert _code(tmp_path, wheel_bytes(record=record, write=write)) == "zip.method"


def _local(content: bytes, name: bytes) -> int:
    """Return where the header in front of the member `name` begins."""
    return content.index(name) - 30


ZIP_TRICKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "bytes in front": (lambda wheel: b"MZ" + wheel, "zip.gap"),
    "bytes behind": (lambda wheel: wheel + b"PK", "zip.end"),
    "no zip": (lambda _wheel: b"no zip at all, not in the least", "zip.end"),
    "nothing": (lambda _wheel: b"", "zip.end"),
    "another name in front of a member": (
        lambda wheel: wheel.replace(b"demo_pkg/data.bin", b"demo_pkg/evil.bin", 1),
        "zip.header",
    ),
    "another size in front of a member": (
        lambda wheel: _changed(wheel, _local(wheel, b"demo_pkg/data.bin") + 18, b"\x01\0\0\0"),
        "zip.header",
    ),
    "no header in front of a member": (
        lambda wheel: _changed(wheel, _local(wheel, b"demo_pkg/data.bin"), b"PK\0\0"),
        "zip.header",
    ),
    "a directory that is no directory": (
        lambda wheel: wheel.replace(b"PK\x01\x02", b"PK\x01\x03", 1),
        "zip.directory",
    ),
    "no members": (lambda _wheel: b"PK\x05\x06" + bytes(18), "zip.size"),
    "several parts": (lambda wheel: _changed(wheel, len(wheel) - 18, b"\x01\0"), "zip.end"),
    "bytes that are not deflated": (
        lambda wheel: _changed(wheel, wheel.index(b"demo_pkg/data.bin") + 17, b"\xff\xff\xff"),
        "zip.data",
    ),
}


def _changed(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


@pytest.mark.parametrize("trick", ZIP_TRICKS)
def test_a_zip_that_readers_read_differently(trick: str, tmp_path: Path) -> None:
    change, code = ZIP_TRICKS[trick]
    assert _code(tmp_path, change(wheel_bytes())) == code


def test_a_member_hidden_between_two(tmp_path: Path) -> None:
    """A reader of headers in order sees a member that the directory does not name."""
    wheel = wheel_bytes()
    hidden = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 4, 4, 7, 0) + b"evil.pyevil"
    start = struct.unpack("<L", wheel[-6:-2])[0]
    grown = wheel[:start] + hidden + wheel[start:-6] + struct.pack("<LH", start + len(hidden), 0)
    assert _code(tmp_path, grown) == "zip.gap"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({k: v for k, v in FILES.items() if INFO not in k}, "wheel.info"),
        ({**FILES, "other-1.dist-info/METADATA": b""}, "wheel.info"),
        ({k: v for k, v in FILES.items() if "METADATA" not in k}, "wheel.info"),
        ({**FILES, f"{INFO}/METADATA": b"Name: torch\nVersion: 1.2\n"}, "wheel.metadata"),
        ({**FILES, f"{INFO}/METADATA": b"Name: demo-pkg\nVersion: nine\n"}, "wheel.metadata"),
    ],
)
def test_metadata_of_another_package(files: dict[str, bytes], code: str, tmp_path: Path) -> None:
    assert _code(tmp_path, wheel_bytes(files)) == code


def test_a_wheel_under_another_name(tmp_path: Path) -> None:
    content = wheel_bytes()
    path = write_wheel(tmp_path, content, "torch-2.13.0-py3-none-any.whl")
    with pytest.raises(MalformedError) as refused:
        read_wheel(str(path), lock_of(content, "torch", "2.13.0"))
    assert refused.value.code == "wheel.info"
    with pytest.raises(MalformedError) as refused:
        read_wheel(str(write_wheel(tmp_path, content, "torch.whl")), lock_of(content))
    assert refused.value.code == "wheel.name"


def _deb_code(folder: Path, content: bytes) -> str:
    path = folder / "libdemo1_1.0-2_amd64.deb"
    path.write_bytes(content)
    with pytest.raises(MalformedError) as refused:
        read_deb(str(path))
    assert path.name in refused.value.message
    return refused.value.code


DEB_TRICKS: dict[str, tuple[bytes, str]] = {
    "no archive": (b"no archive", "deb.archive"),
    "a thin archive, which names files outside": (
        packages.ar_bytes([("debian-binary", b"2.0\n")], b"!<thin>\n"),
        "deb.archive",
    ),
    "a part too many": (
        packages.deb_bytes([]) + packages.ar_bytes([("_evil", b"x")])[8:],
        "deb.archive",
    ),
    "another format": (packages.deb_bytes([]).replace(b"2.0\n", b"3.0\n"), "deb.archive"),
    "a size that is none": (
        packages.deb_bytes([]).replace(b"4         `", b"x         `"),
        "deb.archive",
    ),
    "a negative size": (
        packages.deb_bytes([]).replace(b"4         `", b"-60       `"),
        "deb.archive",
    ),
    "no data": (packages.deb_bytes([]).replace(b"data.tar.xz", b"gone.tar.xz"), "deb.archive"),
    "no control": (packages.deb_bytes([], b"Version: 1\n"), "deb.control"),
    "a name above": (packages.deb_bytes([member("./usr/../../etc/x", b"x")]), "files.name"),
    "an absolute name": (packages.deb_bytes([member("//etc/x", b"x")]), "files.name"),
    "a file twice": (
        packages.deb_bytes([member("./usr/lib/x", b"x"), member("./usr/lib/x", b"evil")]),
        "deb.duplicate",
    ),
    "a file twice over the merged folders": (
        packages.deb_bytes([member("./lib/x", b"x"), member("./usr/lib/x", b"evil")]),
        "deb.duplicate",
    ),
    "a device": (packages.deb_bytes([member("./dev/x", kind=tarfile.CHRTYPE)]), "deb.kind"),
    "a hard link to nothing": (
        packages.deb_bytes([member("./usr/x", kind=tarfile.LNKTYPE, target="./usr/y")]),
        "deb.link",
    ),
    "a cut archive": (
        packages.deb_bytes([member("./usr/x", b"x" * 5000)], packed="")[:-9000],
        "deb.tar",
    ),
}


@pytest.mark.parametrize("trick", DEB_TRICKS)
def test_a_deb_with_a_trick(trick: str, tmp_path: Path) -> None:
    content, code = DEB_TRICKS[trick]
    assert _deb_code(tmp_path, content) == code
