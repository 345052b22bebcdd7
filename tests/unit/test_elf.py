"""The reader of ELF files and what it finds to be loaded together."""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminator.errors import MalformedError, UsageError
from laminator.measure.elf import Elf, read_elf
from laminator.measure.native_closure import Closure, open_in_root, parse_cache


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(data: bytes) -> Elf:
    descriptor = os.memfd_create("elf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        return read_elf(descriptor)
    finally:
        os.close(descriptor)


def library(path: Path, *options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text(f"int {path.name.partition('.')[0]}(void){{return 1;}}")
    words = ["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", str(path), str(source)]
    subprocess.run([*words, *options], check=True, capture_output=True)
    return path


def closure(*paths: Path, sites: tuple[Path, ...] = ()) -> list[str]:
    with opened(Path("/")) as root:
        found = Closure(root, [str(site) for site in sites])
        try:
            for path in paths:
                found.add(str(path))
            return [native.path for native in found.files]
        finally:
            found.close()


def test_names_and_folders_are_read(tmp_path: Path) -> None:
    inner = library(tmp_path / "inner.so", "-Wl,-soname,inner.so.1")
    outer = library(tmp_path / "outer.so", str(inner), "-Wl,-rpath,$ORIGIN:/a")
    with opened(inner) as descriptor:
        assert read_elf(descriptor).soname == "inner.so.1"
    with opened(outer) as descriptor:
        elf = read_elf(descriptor)
    assert elf.needed[0] == "inner.so.1"
    assert elf.rpath + elf.runpath == ("$ORIGIN", "/a")
    assert elf.interpreter is None


def test_program_has_an_interpreter() -> None:
    program = shutil.which("sh")
    assert program is not None
    with opened(Path(program)) as descriptor:
        interpreter = read_elf(descriptor).interpreter
    assert interpreter is not None
    assert Path(interpreter).name.startswith("ld-")


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0, b"\x7fELG", "elf.header"),
        (4, b"\x01", "elf.header"),
        (16, b"\x01", "elf.type"),
        (54, b"\x10", "elf.segments"),
        (56, b"\xff\xff", "elf.segments"),
        (32, b"\xff" * 8, "elf.cut"),
    ],
)
def test_odd_header_is_refused(tmp_path: Path, at: int, value: bytes, code: str) -> None:
    data = bytearray(library(tmp_path / "one.so").read_bytes())
    data[at : at + len(value)] = value
    with pytest.raises(MalformedError) as refused:
        read(bytes(data))
    assert refused.value.code == code


@given(st.binary(max_size=512))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    with pytest.raises(MalformedError):
        read(data)
    try:
        elf = read(head + data)
    except MalformedError:
        return
    assert elf.machine == 62


def test_inherited_rpath_leads_to_what_a_library_needs(tmp_path: Path) -> None:
    deep = library(tmp_path / "deep" / "deep.so")
    middle = library(tmp_path / "middle.so", str(deep), "-Wl,-soname,middle.so")
    rpath = f"-Wl,--disable-new-dtags,-rpath,$ORIGIN:{deep.parent}"
    library(deep, "-Wl,-soname,deep.so")
    library(middle, str(deep), "-Wl,-soname,middle.so")
    outer = library(tmp_path / "outer.so", str(middle), rpath)
    assert {str(deep), str(middle)} <= set(closure(outer))


def test_inherited_runpath_does_not(tmp_path: Path) -> None:
    deep = library(tmp_path / "deep" / "deep.so", "-Wl,-soname,deep.so")
    middle = library(tmp_path / "middle.so", str(deep), "-Wl,-soname,middle.so")
    outer = library(
        tmp_path / "outer.so",
        str(middle),
        f"-Wl,--enable-new-dtags,-rpath,$ORIGIN:{deep.parent},-rpath-link,{deep.parent}",
    )
    assert str(deep) not in closure(outer)


def test_package_and_its_libs_folder_come_along(tmp_path: Path) -> None:
    first = library(tmp_path / "pkg" / "a.so")
    (tmp_path / "pkg" / "__init__.py").touch()
    beside = library(tmp_path / "pkg" / "sub" / "b.so")
    vendored = library(tmp_path / "pkg.libs" / "c.so.1")
    other = library(tmp_path / "other" / "d.so")
    found = closure(first, sites=(tmp_path,))
    assert {str(first), str(beside), str(vendored)} <= set(found)
    assert str(other) not in found
    assert len(found) == len(set(found))


def test_namespace_package_brings_its_own_part_only(tmp_path: Path) -> None:
    first = library(tmp_path / "vendor" / "one" / "a.so")
    other = library(tmp_path / "vendor" / "two" / "b.so")
    assert str(other) not in closure(first, sites=(tmp_path,))


def test_link_counts_as_its_real_file(tmp_path: Path) -> None:
    real = library(tmp_path / "real.so")
    link = tmp_path / "link.so"
    link.symlink_to(real)
    found = closure(link, real)
    assert found.count(str(real)) == 1
    assert str(link) not in found


def test_link_stays_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "inside").write_bytes(b"x")
    (tmp_path / "link").symlink_to("/inside")
    with opened(tmp_path) as root:
        os.close(open_in_root(root, "/link"))
        os.close(open_in_root(root, "/../../inside"))


def test_folder_is_no_library(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        closure(tmp_path)
    assert refused.value.code == "native.open"


def test_cache_is_read() -> None:
    names = b"libone.so\0/a/libone.so\0"
    start = 48 + 24
    data = struct.pack("<20sII20x", b"glibc-ld.so.cache1.1", 1, len(names))
    data += struct.pack("<iIIIQ", 0, start, start + 10, 0, 0) + names
    assert parse_cache(data) == {"libone.so": ["/a/libone.so"]}
    for end in range(len(data)):
        with pytest.raises(MalformedError):
            parse_cache(data[:end])
