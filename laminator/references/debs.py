"""Reference values of a Debian package, by the bytes of its .deb.

The files get the names that a run on the installed system logs: below /usr where the distribution
has merged /bin, /sbin, /lib and /lib64 into it, the standard library and the interpreter of
Debian's Python under the labels of an interpreter. Whether the .deb is Debian's is for whoever
fetched it: `apt-get download` checks the archive's signature. Source: deb(5), ar(5), usrmerge.
"""

import gzip
import hashlib
import io
import lzma
import os
import posixpath
import re
import sys
import tarfile
import zlib
from collections.abc import Mapping
from email.parser import BytesHeaderParser
from typing import IO, Any, cast

from laminator.digest import Digest
from laminator.errors import MalformedError, UsageError, shown
from laminator.reference import ReferencePackage
from laminator.references.packing import pack
from laminator.references.zip_members import check_name

MAX_DEB = 4 << 30
MAX_FILES = 500_000
MAX_TOTAL = 32 << 30
MAX_CONTROL = 1 << 20
MAX_MEMORY = 256 << 20

_CHUNK = 1 << 20
_ARCHIVE = b"!<arch>\n"
_FORMAT = b"2.0\n"
_PARTS = 3
_LINK_STEPS = 8
_MERGED = ("bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/")
_PYTHON = re.compile(r"usr/bin/(python3\.\d+)")
_STDLIB = re.compile(r"usr/lib/python3\.\d+/(.+)")
_SITE = "usr/lib/python3/dist-packages/"
_ERRORS = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


def read_deb(path: str) -> ReferencePackage:
    """Read the .deb at `path`.

    Raises MalformedError `deb.*`, which names it, and UsageError for a file that cannot be read.
    """
    name = os.path.basename(path)  # noqa: PTH119 - text in, text out
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - text in
            return _read(file)
    except MalformedError as error:
        raise MalformedError(error.code, error.message, path=name) from error
    except OSError as error:
        message = f"cannot read {shown(path)}: {error.strerror}; name another .deb"
        raise UsageError("file.read", message) from error


def _read(file: IO[bytes]) -> ReferencePackage:
    if os.fstat(file.fileno()).st_size > MAX_DEB:
        raise MalformedError("deb.size", f"more than {MAX_DEB} bytes")
    origin = Digest("sha-256", hashlib.file_digest(file, "sha256").digest())  # type: ignore[arg-type]
    parts = _parts(file)
    try:
        name, version = _control(_unpacked(parts, "control.tar"))
        files = _files(_unpacked(parts, "data.tar"))
    except _ERRORS as error:
        message = f"its parts are no tar archives: {shown(str(error))}"
        raise MalformedError("deb.tar", message) from error
    return pack(name, version, "deb", files, origin)


def _parts(file: IO[bytes]) -> dict[str, IO[bytes]]:
    """Return the three parts of a .deb; a thin archive would name files outside of it."""
    import arpy

    file.seek(0)
    if file.read(len(_ARCHIVE)) != _ARCHIVE:
        raise MalformedError("deb.archive", "not an ar archive")
    file.seek(0)
    parts: dict[str, IO[bytes]] = {}
    try:
        archive = arpy.Archive(fileobj=file)
        for _ in range(_PARTS + 1):
            header = archive.read_next_header()
            if header is None:
                break
            if header.name is None or header.size < 0:
                raise MalformedError("deb.archive", "a part without a name or a size")
            parts[header.name.decode("ascii", "replace")] = arpy.ArchiveFileData(archive, header)
    except (arpy.ArchiveFormatError, arpy.ArchiveAccessError, ValueError) as error:
        raise MalformedError("deb.archive", "not an ar archive that can be read") from error
    if len(archive.headers) != _PARTS or list(parts)[:1] != ["debian-binary"]:
        raise MalformedError("deb.archive", "not debian-binary, control and data alone")
    if parts["debian-binary"].read(len(_FORMAT) + 1) != _FORMAT:
        raise MalformedError("deb.archive", "not format 2.0")
    return parts


def _unpacked(parts: dict[str, IO[bytes]], stem: str) -> IO[bytes]:
    for name, part in parts.items():
        if name == stem:
            return part
        if name == f"{stem}.gz":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=part))
        if name == f"{stem}.xz":
            return cast("IO[bytes]", _Xz(part))
        if name == f"{stem}.zst":
            return cast("IO[bytes]", _zstd(part))
    raise MalformedError("deb.archive", f"no {stem}, or packed in a way that is not known")


class _Xz:
    """A reader of an xz stream whose dictionary is bounded, as a hostile one's may be 4 GiB."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end."""
        while not self._unpacker.eof:
            more = self._packed.read(_CHUNK) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not more:
                raise EOFError("the xz stream is cut off")
            if out := self._unpacker.decompress(more, size):
                return out
        return b""


def _zstd(packed: IO[bytes]) -> Any:  # noqa: ANN401 - of the standard library from Python 3.14 on
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdFile(packed)


def _control(part: IO[bytes]) -> tuple[str, str]:
    with tarfile.open(fileobj=part, mode="r|") as archive:
        for member in archive:
            if posixpath.normpath(member.name) != "control" or not member.isreg():
                continue
            content = archive.extractfile(member)
            if content is None or member.size > MAX_CONTROL:
                break
            fields = BytesHeaderParser().parse(io.BytesIO(content.read()))
            if fields["Package"] and fields["Version"]:
                return str(fields["Package"]).strip(), str(fields["Version"]).strip()
            break
    raise MalformedError("deb.control", "no control file with Package and Version")


def _files(part: IO[bytes]) -> dict[str, bytes]:
    digests: dict[str, bytes] = {}
    links: dict[str, str] = {}
    total = 0
    with tarfile.open(fileobj=part, mode="r|") as archive:
        for count, member in enumerate(archive):
            path = _path(member.name)
            total += member.size
            if count > MAX_FILES or total > MAX_TOTAL:
                raise MalformedError("deb.size", "more files or bytes than a package may have")
            if member.isdir():
                continue
            if path in digests or path in links:
                raise MalformedError("deb.duplicate", f"{shown(path)} stands there twice")
            if member.issym():
                links[path] = _target(path, member.linkname)
            elif member.islnk():
                digests[path] = _linked(digests, member)
            elif member.isreg() and not member.issparse():
                digests[path] = _digest(archive, member)
            else:
                raise MalformedError("deb.kind", f"{shown(path)} is a device")
    led = {path: digests[end] for path, end in _resolved(links).items() if end in digests}
    return {_place(path): digest for path, digest in {**digests, **led}.items()}


def _resolved(links: Mapping[str, str]) -> dict[str, str]:
    """Return what each link leads to, over a few other links of the package at most."""
    ends = {}
    for path, first in links.items():
        target = first
        for _ in range(_LINK_STEPS):
            target = links.get(target, target)
        ends[path] = target
    return ends


def _path(name: str) -> str:
    """Return a member's path below /, as it lies after the merge into /usr."""
    path = name.removeprefix("./").rstrip("/")
    if path in ("", "."):
        return ""
    check_name(path)
    return f"usr/{path}" if path.startswith(_MERGED) else path


def _target(path: str, text: str) -> str:
    folder = "" if text.startswith("/") else posixpath.dirname(path)
    plain = posixpath.normpath(posixpath.join("/", folder, text.lstrip("/")))[1:]
    return f"usr/{plain}" if plain.startswith(_MERGED) else plain


def _linked(digests: dict[str, bytes], member: tarfile.TarInfo) -> bytes:
    target = _path(member.linkname)
    if target not in digests:
        raise MalformedError("deb.link", f"a hard link to nothing before it: {shown(member.name)}")
    return digests[target]


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    if content is None:
        raise MalformedError("deb.tar", f"no content of {shown(member.name)}")
    digest, size = hashlib.sha256(), 0
    while chunk := content.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    if size != member.size:
        raise MalformedError("deb.tar", f"{shown(member.name)} is cut off")
    return digest.digest()


def _place(path: str) -> str:
    """Return the name that a run logs the file at `path` (below /) under."""
    if binary := _PYTHON.fullmatch(path):
        return f"interpreter/{binary[1]}"
    if stdlib := _STDLIB.fullmatch(path):
        return f"stdlib/{stdlib[1]}"
    if path.startswith(_SITE):
        return f"site/{path.removeprefix(_SITE)}"
    return f"system/{path}"
