"""The members of a zip file that every reader reads alike, and their bytes.

Readers differ: some go by the directory at the end, some by the headers in front of the members,
some skip what stands between. A file that two of them read differently installs other bytes than
were judged, so that anything but the plain form is refused: an end record at the very end, headers
that agree, members without gaps, overlaps or bytes after the compressed stream, one plain relative
name each. Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.4.
"""

import hashlib
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from laminator.errors import MalformedError, shown

MAX_MEMBERS = 0xFFFF - 1
MAX_DIRECTORY = 32 << 20
MAX_MEMBER = 8 << 30
MAX_TOTAL = 32 << 30
MAX_NAME = 1024

_CHUNK = 1 << 20
_HEAD_BYTES = 16
_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_END_MAGIC, _LOCAL_MAGIC = b"PK\x05\x06", b"PK\x03\x04"
_ENCRYPTED, _STREAMED, _UTF8 = 1 << 0, 1 << 3, 1 << 11
_DESCRIPTORS = (12, 16, 20, 24)
_IN_EXTRA = 0xFFFFFFFF


class Member(NamedTuple):
    """A file of a zip: where its compressed bytes begin, how many they are, deflated or stored."""

    name: str
    size: int
    start: int
    compressed: int
    deflated: bool


class MemberDigests(NamedTuple):
    """What a member's bytes are: hexadecimal digests by algorithm, and the first 16 bytes."""

    digests: dict[str, bytes]
    head: bytes


def list_members(descriptor: int) -> tuple[Member, ...]:
    """Return the files of the zip that is open as `descriptor`, in the order of their bytes.

    Raises MalformedError `zip.*`.
    """
    size = os.fstat(descriptor).st_size
    _check_end(descriptor, size)
    try:
        with os.fdopen(os.dup(descriptor), "rb") as stream, zipfile.ZipFile(stream) as archive:
            listed, end = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, ValueError, RuntimeError, struct.error) as error:
        raise MalformedError("zip.directory", "the zip's directory cannot be read") from error
    ordered = sorted(listed, key=lambda info: info.header_offset)
    starts = [info.header_offset for info in ordered] + [end]
    if starts[0] != 0:
        raise MalformedError("zip.gap", f"{starts[0]} bytes in front of the first member")
    members = [
        _member(descriptor, info, following)
        for info, following in zip(ordered, starts[1:], strict=True)
    ]
    files = tuple(member for member in members if not member.name.endswith("/"))
    check_names([member.name for member in files])
    if sum(member.size for member in files) > MAX_TOTAL:
        raise MalformedError("zip.size", f"the files are more than {MAX_TOTAL} bytes together")
    return files


def digest_member(descriptor: int, member: Member, algorithms: Sequence[str]) -> MemberDigests:
    """Return the digests of a member's bytes. Raises MalformedError `zip.data`."""
    hashes = {algorithm: hashlib.new(algorithm) for algorithm in algorithms}
    head, size = b"", 0
    for chunk in _content(descriptor, member):
        head += chunk[: _HEAD_BYTES - len(head)]
        size += len(chunk)
        if size > member.size:
            break
        for each in hashes.values():
            each.update(chunk)
    if size != member.size:
        message = f"{shown(member.name)} has another size than the {member.size} bytes it states"
        raise MalformedError("zip.data", message)
    return MemberDigests({name: each.digest() for name, each in hashes.items()}, head)


def read_member(descriptor: int, member: Member, limit: int) -> bytes:
    """Return a small member's bytes. Raises MalformedError `zip.data`, `zip.size`."""
    if member.size > limit:
        raise MalformedError("zip.size", f"{shown(member.name)} has more than {limit} bytes")
    content = b""
    for chunk in _content(descriptor, member):
        content += chunk
        if len(content) > member.size:
            break
    if len(content) != member.size:
        raise MalformedError("zip.data", f"{shown(member.name)} has another size than it states")
    return content


def check_names(names: Sequence[str]) -> None:
    """Refuse names that a file system joins or that are no plain relative paths.

    Raises MalformedError `files.name`, `files.duplicate`.
    """
    seen: set[str] = set()
    folders: set[str] = set()
    for name in names:
        check_name(name)
        normal = unicodedata.normalize("NFC", name)
        if normal in seen:
            raise MalformedError("files.duplicate", f"two files are called {shown(name)}")
        seen.add(normal)
        parts = normal.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if both := seen & folders:
        message = f"{shown(min(both))} is both a file and a folder"
        raise MalformedError("files.duplicate", message)


def check_name(name: str) -> None:
    """Refuse what is not a plain relative path of printable UTF-8. Raises MalformedError."""
    parts = name.split("/")
    plain = len(name) <= MAX_NAME and not {"", ".", ".."} & set(parts) and "\\" not in name
    if not plain or any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
        raise MalformedError("files.name", f"not a plain relative path: {shown(name)}")


def _check_end(descriptor: int, size: int) -> None:
    """Check the end record alone, before a directory of any size is read."""
    record = os.pread(descriptor, _END.size, max(size - _END.size, 0))
    if len(record) != _END.size or record[:4] != _END_MAGIC:
        raise MalformedError("zip.end", "no zip, or something stands after its end record")
    _, disk, first_disk, here, entries, directory, offset, comment = _END.unpack(record)
    if (disk, first_disk, comment) != (0, 0, 0) or here != entries:
        raise MalformedError("zip.end", "a zip of several parts, or with a comment")
    if not 0 < entries <= MAX_MEMBERS or directory > MAX_DIRECTORY:
        raise MalformedError("zip.size", f"none or more than {MAX_MEMBERS} members")
    if offset + directory + _END.size != size:
        raise MalformedError("zip.gap", "the zip's directory is not right before its end record")


def _member(descriptor: int, info: zipfile.ZipInfo, following: int) -> Member:
    """Check one member's two headers against each other and its place before `following`."""
    name = info.filename
    head = os.pread(descriptor, _LOCAL.size, info.header_offset)
    if len(head) != _LOCAL.size or head[:4] != _LOCAL_MAGIC:
        raise MalformedError("zip.header", f"no header in front of {shown(name)}")
    _, _, flags, method, _, _, _, compressed, _, name_size, extra = _LOCAL.unpack(head)
    raw = os.pread(descriptor, name_size, info.header_offset + _LOCAL.size)
    streamed = bool(flags & _STREAMED)
    sizes_agree = streamed or compressed in (info.compress_size, _IN_EXTRA)
    same_name = raw == info.orig_filename.encode("utf-8" if flags & _UTF8 else "cp437", "replace")
    if (flags, method) != (info.flag_bits, info.compress_type) or not (sizes_agree and same_name):
        raise MalformedError("zip.header", f"the two headers of {shown(name)} differ")
    _check_kind(info)
    start = info.header_offset + _LOCAL.size + name_size + extra
    gap = following - (start + info.compress_size)
    if gap != 0 and not (streamed and gap in _DESCRIPTORS):
        message = f"a gap or an overlap after {shown(name)}"
        raise MalformedError("zip.gap", message)
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Member(name, info.file_size, start, info.compress_size, deflated)


def _check_kind(info: zipfile.ZipInfo) -> None:
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        raise MalformedError("zip.method", f"{shown(name)} is neither stored nor deflated")
    if info.orig_filename != name or not (name.isascii() or info.flag_bits & _UTF8):
        raise MalformedError("files.name", f"not a name in UTF-8: {shown(info.orig_filename)}")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise MalformedError("zip.kind", f"{shown(name)} is a link or a device")
    if info.file_size > MAX_MEMBER or (info.is_dir() and info.file_size):
        raise MalformedError("zip.size", f"{shown(name)} is larger than it may be")
    if info.is_dir():
        check_name(name.removesuffix("/"))


def _content(descriptor: int, member: Member) -> Iterator[bytes]:
    """Yield a member's bytes, at most 1 MiB at once, to the end of its compressed bytes."""
    if not member.deflated:
        yield from _raw(descriptor, member)
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    left = member.compressed
    try:
        for packed in _raw(descriptor, member):
            left -= len(packed)
            waiting = packed
            while waiting and not inflate.eof:
                yield inflate.decompress(waiting, _CHUNK)
                waiting = inflate.unconsumed_tail
            if inflate.eof:
                break
        while not inflate.eof and (rest := inflate.decompress(b"", _CHUNK)):
            yield rest
    except zlib.error as error:
        raise MalformedError("zip.data", f"{shown(member.name)} is not deflated") from error
    if not inflate.eof or inflate.unused_data or left:
        message = f"{shown(member.name)} ends before or after its compressed bytes do"
        raise MalformedError("zip.data", message)


def _raw(descriptor: int, member: Member) -> Iterator[bytes]:
    position, end = member.start, member.start + member.compressed
    while position < end:
        chunk = os.pread(descriptor, min(_CHUNK, end - position), position)
        if not chunk:
            raise MalformedError("zip.data", f"{shown(member.name)} is cut off")
        yield chunk
        position += len(chunk)
