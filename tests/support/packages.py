"""Small wheels, .debs and locks, well formed or with one lie."""

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from laminator.references.locks import Lock, LockedWheel

NAME, VERSION = "demo_pkg", "1.2"
INFO = f"{NAME}-{VERSION}.dist-info"
FILENAME = f"{NAME}-{VERSION}-py3-none-any.whl"
FILES: dict[str, bytes] = {
    "demo_pkg/__init__.py": b"VALUE = 1\n",
    "demo_pkg/data.bin": bytes(range(256)) * 20,
    f"{INFO}/METADATA": f"Metadata-Version: 2.1\nName: demo-pkg\nVersion: {VERSION}\n".encode(),
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n",
}


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def record_row(path: str, content: bytes) -> str:
    text = base64.urlsafe_b64encode(digest(content)).rstrip(b"=").decode()
    return f"{path},sha256={text},{len(content)}\n"


def record_of(files: Mapping[str, bytes], info: str = INFO) -> bytes:
    rows = [record_row(path, content) for path, content in files.items()]
    return "".join([*rows, f"{info}/RECORD,,\n"]).encode()


def wheel_bytes(
    files: Mapping[str, bytes] | None = None,
    record: bytes | None = None,
    write: Callable[[zipfile.ZipFile], None] = lambda _archive: None,
) -> bytes:
    """Return a wheel of `files`, its RECORD, and what `write` adds behind."""
    whole = FILES if files is None else files
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in whole.items():
            archive.writestr(path, content)
        archive.writestr(f"{INFO}/RECORD", record_of(whole) if record is None else record)
        write(archive)
    return stream.getvalue()


def write_wheel(folder: Path, content: bytes, filename: str = FILENAME) -> Path:
    path = folder / filename
    path.write_bytes(content)
    return path


def lock_of(content: bytes, name: str = "demo-pkg", version: str = VERSION) -> Lock:
    """Return a lock that names the wheel with these bytes."""
    hashes = {"sha256": digest(content)}
    return Lock((LockedWheel(name, version, None, hashes, None),), ())


def requirement(content: bytes) -> str:
    return f"demo-pkg=={VERSION} --hash=sha256:{digest(content).hex()}\n"


def tar_bytes(members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:xz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, content


CONTROL = b"Package: libdemo1\nVersion: 1.0-2\nArchitecture: amd64\n"


def ar_bytes(parts: list[tuple[str, bytes]], magic: bytes = b"!<arch>\n") -> bytes:
    out = magic
    for name, content in parts:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}".encode() + b"\x60\n"
        out += content + b"\n" * (len(content) % 2)
    return out


def deb_bytes(
    files: list[tuple[tarfile.TarInfo, bytes]], control: bytes = CONTROL, packed: str = "xz"
) -> bytes:
    data = tar_bytes(files, f"w:{packed}" if packed else "w")
    suffix = f".{packed}" if packed else ""
    parts = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", tar_bytes([member("./control", control)])),
        (f"data.tar{suffix}", data),
    ]
    return ar_bytes(parts)
