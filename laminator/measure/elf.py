"""What an ELF file says about what is loaded with it: a small, strict, bounded reader.

Only 64-bit little-endian files, as `laminator.measure.attester_code` supports: program headers,
PT_INTERP, and of the dynamic section DT_NEEDED, DT_SONAME, DT_RPATH and DT_RUNPATH. The dynamic
linker reads program headers and never sections, so neither does this. Source: System V gABI,
chapters 4 and 5; ld.so(8).
"""

import os
import struct
from typing import NamedTuple

from laminator.errors import MalformedError

MAGIC = b"\x7fELF"
MAX_HEADERS = 1024
MAX_DYNAMIC = 1 << 20
MAX_STRING = 4096
MAX_NEEDED = 4096

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_CLASS_64, _LITTLE = 2, 1
_EXEC, _DYN = 2, 3
_LOAD, _DYNAMIC, _INTERP = 1, 2, 3
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29


class Elf(NamedTuple):
    """An ELF file's machine number (e_machine) and what its dynamic section asks for.

    `rpath` and `runpath` are lists of folders as written, `$ORIGIN` unexpanded; `interpreter` is
    the program interpreter (PT_INTERP), None in most libraries.
    """

    machine: int
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    interpreter: str | None = None


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int


def is_elf(descriptor: int) -> bool:
    """Say whether the open file begins as an ELF file does."""
    return os.pread(descriptor, len(MAGIC), 0) == MAGIC


def read_elf(descriptor: int) -> Elf:
    """Read the open file. Raises MalformedError (`elf.*`) where it is not such an ELF file."""
    fields = _HEADER.unpack(_read(descriptor, _HEADER.size, 0))
    ident, kind, machine = fields[0], fields[1], fields[2]
    if ident[:4] != MAGIC or ident[4] != _CLASS_64 or ident[5] != _LITTLE:
        raise MalformedError("elf.header", "not a 64-bit little-endian ELF file")
    if kind not in (_EXEC, _DYN):
        raise MalformedError("elf.type", f"neither a program nor a shared object: type {kind}")
    segments = _segments(descriptor, start=fields[5], size=fields[9], count=fields[10])
    interpreter = next((one for one in segments if one.kind == _INTERP), None)
    return _dynamic(descriptor, segments)._replace(
        machine=machine,
        interpreter=None if interpreter is None else _text(descriptor, interpreter.offset),
    )


def _segments(descriptor: int, *, start: int, size: int, count: int) -> list[_Segment]:
    if size != _SEGMENT.size or not 0 < count <= MAX_HEADERS:
        raise MalformedError("elf.segments", f"{count} program headers of {size} bytes")
    data = _read(descriptor, size * count, start)
    return [_Segment(f[0], f[2], f[3], f[5]) for f in _SEGMENT.iter_unpack(data)]


def _dynamic(descriptor: int, segments: list[_Segment]) -> Elf:
    section = next((one for one in segments if one.kind == _DYNAMIC), None)
    if section is None:
        return Elf(0)
    if section.size > MAX_DYNAMIC or section.size % _ENTRY.size:
        raise MalformedError("elf.dynamic", f"a dynamic section of {section.size} bytes")
    found: dict[int, list[int]] = {}
    for tag, value in _ENTRY.iter_unpack(_read(descriptor, section.size, section.offset)):
        if tag == 0:
            break
        found.setdefault(tag, []).append(value)
    wanted = [tag for tag in (_NEEDED, _SONAME, _RPATH, _RUNPATH) if tag in found]
    if not wanted:
        return Elf(0)
    if _STRTAB not in found or len(found.get(_NEEDED, ())) > MAX_NEEDED:
        raise MalformedError("elf.dynamic", "names without a string table, or too many")
    table = _offset(segments, found[_STRTAB][-1])
    names = {tag: [_text(descriptor, table + at) for at in found[tag]] for tag in wanted}
    return Elf(
        0,
        needed=tuple(names.get(_NEEDED, ())),
        soname=names[_SONAME][-1] if _SONAME in names else None,
        rpath=_folders(names.get(_RPATH, ())),
        runpath=_folders(names.get(_RUNPATH, ())),
    )


def _folders(lists: list[str] | tuple[()]) -> tuple[str, ...]:
    """Return the folders of the last entry, which is the one that glibc takes."""
    return tuple(lists[-1].split(":")) if lists else ()


def _offset(segments: list[_Segment], address: int) -> int:
    for one in segments:
        if one.kind == _LOAD and one.address <= address < one.address + one.size:
            return one.offset + address - one.address
    raise MalformedError("elf.address", f"address {address:#x} is not in the file")


def _text(descriptor: int, offset: int) -> str:
    if offset >= 1 << 62:
        raise MalformedError("elf.string", "a string beyond the end")
    text, end, _ = os.pread(descriptor, MAX_STRING, offset).partition(b"\0")
    if not end or not text:
        raise MalformedError("elf.string", f"a string that is empty or longer than {MAX_STRING}")
    return os.fsdecode(text)


def _read(descriptor: int, size: int, offset: int) -> bytes:
    data = os.pread(descriptor, size, offset) if offset < 1 << 62 else b""
    if len(data) < size:
        raise MalformedError("elf.cut", f"the file ends before {size} bytes at {offset}")
    return data
